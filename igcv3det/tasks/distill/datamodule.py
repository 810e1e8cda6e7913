"""The data of distillation: which images make a batch, how they are cropped, and their boxes."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

import numpy as np
import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor
from torchvision.ops import box_area

from igcv3det.config import PreprocessConfig, require
from igcv3det.datasets.box_labels import ImageBoxes, read_labels
from igcv3det.datasets.image_cache import ImageCache
from igcv3det.engine.loader import (
    rank_and_world_size,
    resume_position,
    warn_of_other_batches,
)
from igcv3det.engine.sampler import EpochBatches, Key
from igcv3det.structures import Categories, Target
from igcv3det.tasks.distill.batches import Batch, ImageBatches, Rows
from igcv3det.tasks.distill.config import CropConfig
from igcv3det.tasks.distill.crops import Crops, boxes_in_crops, crop_regions, random_crops

logger = logging.getLogger(__name__)

_CROP: Final = CropConfig()
_PREPROCESS: Final = PreprocessConfig()
_NOTHING: Final = ImageBoxes(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0))
_MIN_VISIBLE = 0.3  # share of a box's area that must lie in the crop for the box to be kept
_MIN_SIDE_PX = 2
_UNCHANGED = {
    **{"min_scale": 1.0, "max_scale": 1.0, "max_aspect": 1.0},
    **{"flip": 0.0, "colour": 0.0, "sharpen": 0.0},
}

_COPIED_AT_ONCE = 512  # images


class DistillationDataModule(LightningDataModule):
    """Unlabelled images as random crops.

    Order and crops depend only on ``seed``, the batch size and the images, so a resumed run has the
    batches of an uninterrupted one.

    Args:
        folders: Folders of images.
        boxes: COCO JSON files with the images' boxes: annotations or, with scores, detections
            (`datasets.box_labels`). Images are matched by file name; of several files with the same
            image the last has precedence. Required by ``model.distillation.box_weight``.
        side: Images are resized to squares of this side, pixels.
        cache: Folder for the decoded images.
        batch_size: Crops per step and process.
        held_out: Number of images, drawn with seed 0, that are used for validation only.
        crop: Size and ranges of the random crops.
        crops_per_image: 0 draws new crops in every epoch. Otherwise an image has so many crops,
            one an epoch in turn, and what the teacher and frozen leading parts compute for them is
            kept in ``cache`` (about 0.5 MB a crop of 300 pixels).
        on_device: Keep all images in the memory of the GPU that trains; ``3 * side ** 2`` bytes
            each.
        preprocess: Normalisation; comes from the model.
        seed: Seed of order and crops.
        categories: Categories of the boxes; come from the teacher.
    """

    def __init__(
        self,
        folders: list[str],
        boxes: tuple[str, ...] = (),
        side: int = 300,
        cache: str = "runs/cache",
        batch_size: int = 32,
        held_out: int = 128,
        crop: CropConfig = _CROP,
        crops_per_image: int = 0,
        on_device: bool = False,
        preprocess: PreprocessConfig = _PREPROCESS,
        seed: int = 0,
        categories: Categories | None = None,
    ) -> None:
        super().__init__()
        require(batch_size >= 1, "data.batch_size must be >= 1", batch_size)
        require(held_out >= 1, "data.held_out must be >= 1", held_out)
        if crop.size > side:
            raise ValueError(f"data.crop.size {crop.size} is more than data.side {side}")
        if crops_per_image < 0:
            raise ValueError(f"data.crops_per_image must be >= 0, got {crops_per_image}")
        self.folders, self.side, self.cache = folders, side, cache
        self.batch_size, self.held_out = batch_size, held_out
        self.crop, self.preprocess, self.seed = crop, preprocess, seed
        self.categories = categories
        self.boxes, self.on_device = boxes, on_device
        self.crops_per_image = crops_per_image
        self.is_needless: Callable[[Sequence[int]], bool] = lambda crops: False
        """Tells of the numbers of fixed crops whether nobody reads their images."""
        self.store: ImageCache | None = None
        self._resident: Tensor | None = None
        self._resumed: dict[str, Any] | None = None

    def setup(self, stage: str) -> None:
        """Decodes the images that are not in the cache."""
        if self.store is None:
            self.store = ImageCache(self.folders, self.side, self.cache)
            order = np.random.default_rng(0).permutation(len(self.store))
            if len(order) < self.held_out + self.batch_size:
                raise ValueError(
                    f"{len(order)} images are too few for data.held_out {self.held_out} and a "
                    f"batch of {self.batch_size}"
                )
            self.val_rows = np.sort(order[: self.held_out])
            self.train_rows = np.sort(order[self.held_out :])
            self._labels = self._read_boxes()
            # a score of 1 is that of an annotated box
            self._has_scores = any(bool((own.scores < 1).any()) for own in self._labels.values())
            logger.info("images: %d, %d held out", len(self.train_rows), len(self.val_rows))

    def train_dataloader(self) -> ImageBatches:
        """Shuffled full batches, from the step that Lightning is at."""
        assert self.store is not None
        warn_of_other_batches(self._resumed, self.state_dict())
        rank, world_size = rank_and_world_size(self.trainer)
        length, seed = len(self.train_rows), self.seed
        batches = EpochBatches(length, self.batch_size, True, seed, rank, world_size)
        return ImageBatches(
            self._pixels, self.train_rows, batches, partial(resume_position, self.trainer)
        )

    def val_dataloader(self) -> ImageBatches:
        """The held-out images once, in full batches: OpenVINO compiles every batch size anew."""
        assert self.store is not None
        rank, world_size = rank_and_world_size(self.trainer)
        size = min(self.batch_size, max(1, len(self.val_rows) // world_size))
        whole = len(self.val_rows) // (size * world_size) * (size * world_size)
        batches = EpochBatches(whole, size, rank=rank, world_size=world_size)
        return ImageBatches(self._pixels, self.val_rows, batches, lambda: (0, 0))

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Batch:  # noqa: ANN401
        """Crops and normalises the images on the device that trains."""
        pixels, keys = batch
        rows = [row for _, row in keys]
        crop, crops = self.crop, None
        if self.trainer is not None and not self.trainer.training:
            crop = CropConfig(size=self.crop.size, **_UNCHANGED)
            found = random_crops(pixels, crop, (0, *keys[0]))
        elif self.crops_per_image:
            crops = self._fixed_crops(keys)
            if self.is_needless(crops):
                return self._without_images(pixels, rows, crops)
            one_by_one = [
                random_crops(pixels[i : i + 1], crop, (self.seed, number))
                for i, number in enumerate(crops)
            ]
            found = Crops(*(torch.cat(column) for column in zip(*one_by_one, strict=True)))
        else:
            found = random_crops(pixels, crop, (self.seed, *keys[0]))
        images, regions = found
        channels = zip(self.preprocess.mean, self.preprocess.std, strict=True)
        for channel, (mean, std) in enumerate(channels):  # copying tensors would stall a GPU
            images[:, channel].sub_(mean).div_(std)
        return Batch(images, self._targets(rows, regions, images.device), crops)

    def _without_images(self, pixels: Tensor, rows: list[int], crops: list[int]) -> Batch:
        images = pixels.new_empty(len(rows), 3, 0, 0).float()
        if not self._labels:
            return Batch(images, [], crops)
        side = pixels.shape[1]
        found = [crop_regions(1, side, self.crop, (self.seed, number)) for number in crops]
        return Batch(images, self._targets(rows, torch.cat(found), images.device), crops)

    @property
    def num_crops(self) -> int:
        """Fixed crops of all images."""
        assert self.store is not None
        return self.crops_per_image * len(self.store)

    def _fixed_crops(self, keys: Sequence[Key]) -> list[int]:
        assert self.store is not None
        return [epoch % self.crops_per_image * len(self.store) + row for epoch, row in keys]

    def crops_description(self) -> tuple[object, ...]:
        """What determines the pixels of the fixed crops."""
        assert self.store is not None
        own = (self.side, self.crop, self.crops_per_image, self.preprocess, self.seed)
        return (self.store.fingerprint, *own)

    def state_dict(self) -> dict[str, Any]:
        """Everything that determines the batches, except the step, which Lightning saves."""
        return {
            "seed": self.seed,
            "batch_size": self.batch_size,
            "world_size": rank_and_world_size(self.trainer)[1],
            "images": len(self.train_rows),
            "crops_per_image": self.crops_per_image,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keeps the settings of the run that is resumed, to warn of changes."""
        self._resumed = state_dict

    def _read_boxes(self) -> dict[str, ImageBoxes]:
        if not self.boxes:
            return {}
        assert self.categories is not None
        assert self.store is not None
        labels: dict[str, ImageBoxes] = {}
        for path in self.boxes:
            own = read_labels(path, self.categories)
            if shared := labels.keys() & own.keys():
                raise ValueError(
                    f"data.boxes: images are matched by file name, but {min(shared)} is in "
                    f"{path} and in another of these files"
                )
            labels |= own
        names = [path.name for path in self.store.paths]
        twice = next((name for name, count in Counter(names).items() if count > 1), None)
        if twice is not None:
            raise ValueError(
                f"data.boxes: images are matched by file name, but {twice} is in two of "
                "data.folders"
            )
        missing = [name for name in names if name not in labels]
        if missing:
            raise ValueError(
                f"data.boxes: {len(missing)} images are not in these files, or not with their "
                f"size, such as {missing[0]}; images without objects must be listed too"
            )
        return labels

    def _pixels(self, rows: Rows) -> Tensor:
        """[B, P, P, 3] uint8 of some images."""
        assert self.store is not None
        device = self.trainer.strategy.root_device if self.trainer is not None else None
        if not self.on_device or device is None or device.type == "cpu":
            return torch.from_numpy(self.store.pixels[rows])
        if self._resident is None:
            self._resident = torch.empty(self.store.pixels.shape, dtype=torch.uint8, device=device)
            for start in range(0, len(self.store), _COPIED_AT_ONCE):
                part = self.store.pixels[start : start + _COPIED_AT_ONCE]
                self._resident[start : start + len(part)] = torch.from_numpy(part.copy())
        return self._resident[torch.from_numpy(rows).to(device, non_blocking=True)]

    def _targets(self, rows: list[int], regions: Tensor, device: torch.device) -> list[Target]:
        """Targets of the crops, without boxes of which too little is visible."""
        assert self.store is not None
        size = self.crop.size
        labelled = [self._labels.get(self.store.paths[row].name, _NOTHING) for row in rows]
        counts = torch.tensor([len(own.boxes) for own in labelled])
        boxes, labels, scores = (torch.cat(column) for column in zip(*labelled, strict=True))
        whole = boxes_in_crops(boxes * self.side, regions.repeat_interleave(counts, dim=0), size)
        boxes = whole.clamp(0, size)
        kept = box_area(boxes) >= _MIN_VISIBLE * box_area(whole)
        kept &= (boxes[:, 2:] - boxes[:, :2]).amin(dim=1) >= _MIN_SIDE_PX
        left = [int(own.sum()) for own in torch.split(kept, counts.tolist())]
        # copied in one piece: a GPU would wait for many small copies
        columns = (
            torch.split(column[kept].to(device, non_blocking=True), left)
            for column in (boxes, labels, scores)
        )
        no_crowds, scored = torch.zeros(0, 4, device=device), self._has_scores
        return [
            Target(own[0], own[1], no_crowds, row, (size, size), own[2] if scored else None)
            for row, *own in zip(rows, *columns, strict=True)
        ]
