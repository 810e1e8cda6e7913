"""Training and validation data of a run."""

from __future__ import annotations

import logging
import os
from functools import cached_property, partial
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import torch
from pytorch_lightning import LightningDataModule

from igcv3det.config import AugmentConfig, PreprocessConfig, require
from igcv3det.datasets.checks import load_annotations, require_same_categories
from igcv3det.datasets.formats import DataFormat
from igcv3det.datasets.record import AnnotationRecord
from igcv3det.datasets.store import AnnotationStore
from igcv3det.engine.loader import (
    BatchLoader,
    rank_and_world_size,
    resume_position,
    training_batches,
    warn_of_other_batches,
)
from igcv3det.engine.sampler import EpochBatches
from igcv3det.preprocess import Preprocess
from igcv3det.structures import Categories
from igcv3det.tasks.detect.augmentation_file import load_augmentation
from igcv3det.tasks.detect.batches import pack, unpack
from igcv3det.tasks.detect.dataset import CocoDetection
from igcv3det.tasks.detect.mosaic import Mosaic
from igcv3det.tasks.detect.own_augmentation import OwnAugmentation
from igcv3det.tasks.detect.splits import SplitPaths, TrainingSplits
from igcv3det.tasks.detect.transforms import EvalTransform, TrainTransform

logger = logging.getLogger(__name__)

_AUGMENT: Final = AugmentConfig()
_PREPROCESS: Final = PreprocessConfig()
_FROM_START: Final = (0, 0)


class CocoDataModule(LightningDataModule):
    """A data set of any format, for training and validation.

    Which images make batch n of a run, and every random change to them, depend on ``seed``, the
    sizes of batch and data set, and the number of processes alone. A resumed run continues with the
    batch that an unbroken run would have had next, in the middle of an epoch too.

    Args:
        root: the data set: folder or file of COCO JSON, YOLO, Pascal VOC, LabelMe, CVAT or CSV; or
            the folder that the next four paths start from.
        train_images: folder of the training images. Where one of the four paths is given, the data
            is COCO JSON, and those that are not given are COCO's own.
        train_annotations: COCO JSON of the training images.
        val_images: folder of the validation images.
        val_annotations: COCO JSON of the validation images, with the same categories.
        format: of the data set; null recognises it by looking.
        drop_empty_classes: leave out classes without a box in training and validation.
        batch_size: training images of one process and step.
        val_batch_size: validation images of one process and step; None takes ``batch_size``.
        num_workers: processes that load, for each process that trains; not more than there are
            cores. 0 loads in the training process.
        strict: refuse annotations with issues instead of dropping what is wrong.
        allow_outside: an annotation file may name images outside its folder of images.
        augment: random changes of training images.
        augmentation: file of an albumentations pipeline in its own serialisation (JSON or YAML),
            which takes the place of ``augment``.
        mosaic: share of the training samples that are four images in one, in 0..1.
        image_size: side of the network input, pixels; comes from the model.
        preprocess: image to network input; comes from the model.
        seed: of the order of images and of random changes.
    """

    def __init__(
        self,
        root: str | Path,
        train_images: str | None = None,
        train_annotations: str | None = None,
        val_images: str | None = None,
        val_annotations: str | None = None,
        format: DataFormat | None = None,
        drop_empty_classes: bool = False,
        batch_size: int = 32,
        val_batch_size: int | None = None,
        num_workers: int = 2,
        strict: bool = False,
        allow_outside: bool = False,
        augment: AugmentConfig = _AUGMENT,
        augmentation: str | None = None,
        mosaic: float = 0.0,
        image_size: int = 320,
        preprocess: PreprocessConfig = _PREPROCESS,
        seed: int = 0,
    ) -> None:
        super().__init__()
        val_batch_size = batch_size if val_batch_size is None else val_batch_size
        _check_ranges((batch_size, val_batch_size), num_workers, mosaic)
        self.splits = TrainingSplits(
            Path(root),
            SplitPaths(train_images, train_annotations),
            SplitPaths(val_images, val_annotations),
            format,
            drop_empty_classes=drop_empty_classes,
        )
        self.batch_size = batch_size
        self.val_batch_size = val_batch_size
        self.num_workers = min(num_workers, os.cpu_count() or 1)
        self.strict, self.allow_outside = strict, allow_outside
        self.augment, self.augmentation, self.mosaic = augment, augmentation, mosaic
        self.preprocess = Preprocess(preprocess, image_size)
        self.seed = seed
        self._resumed: dict[str, Any] | None = None

    @cached_property
    def categories(self) -> Categories:
        """What the labels mean, by the validation annotations.

        Raises:
            AnnotationError: the file cannot be understood.
        """
        return self.val_record.categories

    @cached_property
    def val_record(self) -> AnnotationRecord:
        """The validation annotations as given, for the evaluator.

        Raises:
            AnnotationError: the file cannot be understood.
        """
        return self.splits.val.record

    @cached_property
    def train_store(self) -> AnnotationStore:
        """The training annotations, checked.

        Raises:
            AnnotationError: they cannot be used, or have other categories than the validation's.
        """
        record, images = self.splits.train
        store, _ = load_annotations(record, images, self.strict, allow_outside=self.allow_outside)
        val = self.val_record
        require_same_categories(store.categories, record.path, val.categories, val.path)
        return store

    @cached_property
    def val_store(self) -> AnnotationStore:
        """The validation annotations, checked.

        Raises:
            AnnotationError: they cannot be used.
        """
        return load_annotations(
            self.val_record,
            self.splits.val.images,
            self.strict,
            allow_outside=self.allow_outside,
            need_objects=False,
        ).store

    def setup(self, stage: str) -> None:
        """Reads what the stage needs, so that errors come to light before the first step."""
        self.splits.note_source()
        sizes = {"val": len(self.val_store)}
        if stage == "fit":
            sizes["train"] = len(self.train_store)
            self.splits.note_empty_classes()
            _ = self.own_augmentation
        logger.info("images: %s; %d classes", sizes, len(self.categories))

    @cached_property
    def own_augmentation(self) -> OwnAugmentation | None:
        """The pipeline of ``augmentation``, tried on the sizes of the training images.

        Raises:
            FileNotFoundError, ValueError: it cannot be used.
        """
        if self.augmentation is None:
            return None
        sizes = self.train_store.images.sizes
        smallest = [tuple(sizes[row].tolist()) for row in sizes.argmin(axis=0)]
        if self.mosaic:  # whose canvas it is applied to
            smallest.append((2 * self.preprocess.image_size,) * 2)
        return load_augmentation(self.augmentation, list(dict.fromkeys(smallest)))

    @property
    def train_dataset(self) -> CocoDetection:
        """The training samples with their random changes."""
        own, size = self.own_augmentation, self.preprocess.image_size
        return CocoDetection(
            self.train_store,
            self.splits.train.images,
            TrainTransform(self.augment, self.preprocess, self.seed, own),
            Mosaic(self.mosaic, size, self.seed) if self.mosaic else None,
        )

    def train_dataloader(self) -> BatchLoader:
        """Shuffled full batches; during training, from the current step on."""
        store = self.train_store
        warn_of_other_batches(self._resumed, self.state_dict())
        return BatchLoader(
            self.train_dataset,
            training_batches(self.trainer, len(store), self.batch_size, self.seed),
            collate=pack,
            restore=unpack,
            num_workers=self.num_workers,
            pin_memory=torch.cuda.is_available(),
            position=None if self.trainer is None else partial(resume_position, self.trainer),
        )

    def val_dataloader(self) -> BatchLoader:
        """Every image once, in the order of the file."""
        store = self.val_store
        rank, world_size = rank_and_world_size(self.trainer)
        return BatchLoader(
            CocoDetection(store, self.splits.val.images, EvalTransform(self.preprocess)),
            EpochBatches(len(store), self.val_batch_size, rank=rank, world_size=world_size),
            collate=pack,
            restore=unpack,
            num_workers=self.num_workers,
            pin_memory=torch.cuda.is_available(),
            position=lambda: _FROM_START,
        )

    def state_dict(self) -> dict[str, Any]:
        """The values that determine the batches, besides the step, which Lightning keeps."""
        world_size = rank_and_world_size(self.trainer)[1]
        own = {"augmentation": self._augmentation_digest, "mosaic": self.mosaic}
        return {
            "seed": self.seed,
            "batch_size": self.batch_size,
            "world_size": world_size,
            "images": len(self.train_store),
            **{key: value for key, value in own.items() if value},
        }

    @property
    def _augmentation_digest(self) -> str | None:
        if self.augmentation is None:
            return None
        return sha256(Path(self.augmentation).read_bytes()).hexdigest()[:16]

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keeps the values of the interrupted run, to warn of changes."""
        self._resumed = state_dict


def _check_ranges(batch_sizes: tuple[int, int], num_workers: int, mosaic: float) -> None:
    require(min(batch_sizes) >= 1, "data: batch sizes must be >= 1", batch_sizes)
    require(num_workers >= 0, "data.num_workers must be >= 0", num_workers)
    require(0 <= mosaic <= 1, "data.mosaic must be in [0, 1]", mosaic)
