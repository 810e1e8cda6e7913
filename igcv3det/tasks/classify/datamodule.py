"""Training and validation data of a classification run."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Final, Literal

import torch
from pytorch_lightning import LightningDataModule

from igcv3det.config import require
from igcv3det.engine.loader import (
    BatchLoader,
    Position,
    rank_and_world_size,
    resume_position,
    training_batches,
    warn_of_other_batches,
)
from igcv3det.engine.sampler import EpochBatches
from igcv3det.shapes.classification import NAMES, draw_classes
from igcv3det.tasks.classify.augmentation import CropFlipSampler
from igcv3det.tasks.classify.batches import DecodedImages, StoredImages, identity_collate, stack
from igcv3det.tasks.classify.config import ImageAugmentConfig
from igcv3det.tasks.classify.sources import (
    DataError,
    Split,
    is_zip,
    list_split,
    require_same_classes,
    validation_split,
)
from igcv3det.tasks.classify.store import ImageStore, load_store, torchvision_store

logger = logging.getLogger(__name__)

Source = Literal["auto", "folder", "zip", "cifar10", "cifar100", "shapes"]
CACHE = "data/cache"
CIFAR_SIZE = 32  # pixels
LARGEST_STORED = 64  # pixels: 50,000 images of that size take 600 MB
_CIFAR_FOLDERS: Final[dict[str, Source]] = {
    "cifar-10-batches-py": "cifar10",
    "cifar-100-python": "cifar100",
}
_AUGMENT: Final = ImageAugmentConfig()


class ClassificationDataModule(LightningDataModule):
    """A data set of labelled images, for training and validation.

    Small images are decoded once and kept in memory: the GPU's when training on one. The images of
    batch n and their augmentation depend only on ``seed``, the sizes of batch and data set and the
    number of processes, so a resumed run repeats an uninterrupted one.

    Args:
        root: Folder of class folders (``train/CLASS/*.jpg`` beside ``val`` or ``test``), a zip file
            of one, or the folder that torchvision keeps CIFAR in.
        source: Kind of data set; ``auto`` recognises all but ``shapes``: synthetic images,
            generated without ``root``.
        train_split: Split to train on.
        val_split: Split to validate on; None takes "val" if there is one, else "test".
        download: Let torchvision download CIFAR.
        in_memory: Keep decoded images in memory; None does so up to 64 pixels.
        cache: Folder for decoded images, which later runs read; None for no cache.
        batch_size: Training images per process and step.
        val_batch_size: Validation images per process and step; None takes ``batch_size``.
        num_workers: Processes that decode large images, per training process.
        augment: Augmentation of training images.
        drawn: Numbers of synthetic images for training and for validation.
        val_limit: Validate on this many images, at equal intervals; None takes all.
        image_size: Side of the network input, pixels; comes from the model.
        seed: Random seed of image order and augmentation.
    """

    def __init__(
        self,
        root: str | None = None,
        source: Source = "auto",
        train_split: str = "train",
        val_split: str | None = None,
        download: bool = False,
        in_memory: bool | None = None,
        cache: str | None = CACHE,
        batch_size: int = 128,
        val_batch_size: int | None = None,
        num_workers: int = 2,
        augment: ImageAugmentConfig = _AUGMENT,
        drawn: tuple[int, int] = (3000, 600),
        val_limit: int | None = None,
        image_size: int = 32,
        seed: int = 0,
    ) -> None:
        super().__init__()
        val_batch_size = batch_size if val_batch_size is None else val_batch_size
        sizes = batch_size, val_batch_size
        require(min(sizes) >= 1, "data: batch sizes must be >= 1", sizes)
        if root is None and source != "shapes":
            raise ValueError("data.root is needed: a folder, a zip file, or data.source shapes")
        self.root = Path(root or ".")
        self.source: Source = _recognised(self.root) if source == "auto" else source
        self.train_split, self.val_split = train_split, val_split
        self.download, self.val_limit = download, val_limit
        self.drawn = (drawn[0], drawn[1])  # YAML has lists
        self.cache = None if cache is None else Path(cache)
        self.batch_size, self.val_batch_size = batch_size, val_batch_size
        self.num_workers = min(num_workers, os.cpu_count() or 1)
        self.augment, self.image_size, self.seed = augment, image_size, seed
        self.in_memory = image_size <= LARGEST_STORED if in_memory is None else in_memory
        if not self.in_memory and self.source == "zip":
            raise ValueError(f"{root}: unpack it, or pass --data.in_memory true")
        self._stores: dict[str, ImageStore] = {}
        self._resumed: dict[str, Any] | None = None

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the classes; of images in files, only the folders' names are read.

        Raises:
            DataError: the layout is wrong.
        """
        return self.val_part.names

    @cached_property
    def train_part(self) -> Split | ImageStore:
        """The training images, in files or in memory.

        Raises:
            DataError: the layout is wrong, or the classes differ from the validation images'.
        """
        part = self._open(self.train_split, train=True)
        if isinstance(part, Split) and isinstance(self.val_part, Split):
            require_same_classes(part, self.val_part)
        return part

    @cached_property
    def val_part(self) -> Split | ImageStore:
        """The validation images, in files or in memory.

        Raises:
            DataError: the layout is wrong.
        """
        return self._open(self.val_split, train=False)

    @property
    def fingerprint(self) -> str:
        """A text that differs for different images."""
        if self.source in ("folder", "zip"):
            parts = (self.train_part, self.val_part)
            return " ".join(part.fingerprint for part in parts if isinstance(part, Split))
        return f"{self.source} {self.drawn}" if self.source == "shapes" else self.source

    def setup(self, stage: str) -> None:
        """Lists the images that the stage needs, so that errors are found before the first step."""
        sizes = {"val": _length(self.val_part)}
        if stage == "fit":
            sizes["train"] = _length(self.train_part)
        logger.info("images: %s; %d classes", sizes, len(self.names))

    def train_dataloader(self) -> BatchLoader:
        """Shuffled full batches; under a trainer, from its current step on."""
        warn_of_other_batches(self._resumed, self.state_dict())
        return self._loader(
            train=True,
            batches=training_batches(
                self.trainer, _length(self.train_part), self.batch_size, self.seed
            ),
        )

    def val_dataloader(self) -> BatchLoader:
        """Every image once, in order."""
        rank, world_size = rank_and_world_size(self.trainer)
        length = _length(self.val_part)
        count = length if self.val_limit is None else min(length, self.val_limit)
        batches = EpochBatches(count, self.val_batch_size, rank=rank, world_size=world_size)
        return self._loader(train=False, batches=batches)

    def state_dict(self) -> dict[str, Any]:
        """Everything that determines the batches, except the step, which Lightning saves."""
        return {
            "seed": self.seed,
            "batch_size": self.batch_size,
            "world_size": rank_and_world_size(self.trainer)[1],
            "images": _length(self.train_part),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keeps the interrupted run's settings, to warn of changes."""
        self._resumed = state_dict

    def _loader(self, *, train: bool, batches: EpochBatches) -> BatchLoader:
        position: Callable[[], Position] | None = _from_start
        if train:
            position = None if self.trainer is None else partial(resume_position, self.trainer)
        part = self.train_part if train else self.val_part
        chosen = _equal_intervals(_length(part), None if train else self.val_limit)
        if isinstance(part, Split) and not self.in_memory:
            augment = self.augment if train else None
            return BatchLoader(
                DecodedImages(part.only(chosen), self.image_size, augment, self.seed),
                batches,
                num_workers=self.num_workers,
                pin_memory=torch.cuda.is_available(),
                position=position,
                collate=stack,
                restore=identity_collate,
            )
        store = (part if isinstance(part, ImageStore) else self._decoded(part)).only(chosen)
        sampler = CropFlipSampler(len(store.labels), self.augment, self.seed) if train else None
        return BatchLoader(
            StoredImages(self._on_device(store), sampler),
            batches,
            position=position,
            collate=identity_collate,
            restore=identity_collate,
        )

    def _open(self, split: str | None, *, train: bool) -> Split | ImageStore:
        if self.source in ("folder", "zip"):
            name = split if train and split else validation_split(self.root, split)
            return list_split(self.root, name)
        if self.source == "shapes":
            images, labels = draw_classes(self.drawn[not train], self.image_size, split=not train)
            return ImageStore(torch.from_numpy(images), torch.from_numpy(labels), NAMES)
        if self.image_size != CIFAR_SIZE:
            raise DataError(f"{self.root}: CIFAR has images of 32 pixels, not {self.image_size}")
        kind: Literal["cifar10", "cifar100"] = "cifar10" if self.source == "cifar10" else "cifar100"
        return torchvision_store(kind, self.root, train=train, download=self.download)

    def _decoded(self, split: Split) -> ImageStore:
        if split.name not in self._stores:
            self._stores[split.name] = load_store(split, self.image_size, self.cache)
        return self._stores[split.name]

    def _on_device(self, store: ImageStore) -> ImageStore:
        if self.trainer is None or self.trainer.strategy.root_device.type != "cuda":
            return store
        device = self.trainer.strategy.root_device
        return store._replace(images=store.images.to(device), labels=store.labels.to(device))


def _length(part: Split | ImageStore) -> int:
    return len(part) if isinstance(part, Split) else len(part.labels)


def _equal_intervals(length: int, limit: int | None) -> range | list[int]:
    """Indices of all images, or of some across all classes: images are sorted by class."""
    if limit is None or limit >= length:
        return range(length)
    return [index * length // limit for index in range(limit)]


def _from_start() -> Position:
    return 0, 0


def _recognised(root: Path) -> Source:
    if is_zip(root):
        return "zip"
    for folder, source in _CIFAR_FOLDERS.items():
        if (root / folder).is_dir():
            return source
    return "folder"
