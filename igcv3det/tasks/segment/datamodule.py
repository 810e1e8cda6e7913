"""Training and validation data of a segmentation run."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Final

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
from igcv3det.tasks.segment.batches import MaskedImages, MaskTransform, identity, stack_samples
from igcv3det.tasks.segment.config import MaskAugmentConfig, SegmenterConfig, Triple
from igcv3det.tasks.segment.masks import ClassLabels
from igcv3det.tasks.segment.scan import SplitScan, check_labels, class_labels, scan_split
from igcv3det.tasks.segment.sources import MaskSource, validation_split
from igcv3det.tasks.segment.transforms import MaskEvalTransform, MaskTrainTransform

logger = logging.getLogger(__name__)

_AUGMENT: Final = MaskAugmentConfig()
_FROM_START: Final = (0, 0)


class MaskDataModule(LightningDataModule):
    """A data set of images and masks, for training and validation.

    All masks are read once before the training: their labels decide on the classes. As in
    detection, the images of batch n and their random changes depend on ``seed``, the sizes of batch
    and data set and the number of processes alone.

    Args:
        root: Folder with ``SPLIT/`` beside ``SPLIT_labels/``, or of Pascal VOC's layout.
        classes: File with the names of the classes, one a line from label 0, and their colours
            where masks are RGB; null takes ``classes.txt`` or ``label_colors.txt`` in ``root``,
            else numbers the labels that occur.
        ignore: Labels of no class, which neither training nor evaluation counts; 255 is one always.
        train_split: Split to train on.
        val_split: Split to validate on; null takes val, else test.
        batch_size: Training images of one process and step.
        val_batch_size: Validation images of one process and step; null takes ``batch_size``.
        num_workers: Processes that load, for each process that trains; not more than there are
            cores. 0 loads in the training process.
        augment: Random changes of training images.
        image_size: Height and width of the network input, pixels; come from the model.
        mean: Mean of each channel; comes from the model.
        std: Standard deviation of each channel; comes from the model.
        seed: Seed of the order of images and of random changes.
    """

    def __init__(
        self,
        root: str | Path,
        classes: str | None = None,
        ignore: tuple[int, ...] = (),
        train_split: str = "train",
        val_split: str | None = None,
        batch_size: int = 8,
        val_batch_size: int | None = None,
        num_workers: int = 2,
        augment: MaskAugmentConfig = _AUGMENT,
        image_size: tuple[int, int] = (512, 512),
        mean: Triple = (127.5, 127.5, 127.5),
        std: Triple = (127.5, 127.5, 127.5),
        seed: int = 0,
    ) -> None:
        super().__init__()
        val_batch_size = batch_size if val_batch_size is None else val_batch_size
        sizes = batch_size, val_batch_size
        require(min(sizes) >= 1, "data: batch sizes must be >= 1", sizes)
        require(num_workers >= 0, "data.num_workers must be >= 0", num_workers)
        are_labels = all(0 <= label <= 255 for label in ignore)
        require(are_labels, "data.ignore must be labels in 0..255", list(ignore))
        self.source = MaskSource(root, classes)
        self.ignore = tuple(ignore)
        self.train_split = train_split
        self.val_split = val_split or validation_split(self.source)
        self.batch_size, self.val_batch_size = batch_size, val_batch_size
        self.num_workers = min(num_workers, os.cpu_count() or 1)
        self.augment, self.seed = augment, seed
        self.config = SegmenterConfig(image_size=image_size, mean=mean, std=std)
        self._resumed: dict[str, Any] | None = None

    @cached_property
    def train_scan(self) -> SplitScan:
        """The training masks.

        Raises:
            ValueError: the split or a mask cannot be used; names the file.
        """
        return scan_split(self.source.read(self.train_split))

    @cached_property
    def val_scan(self) -> SplitScan:
        """The validation masks.

        Raises:
            ValueError: the split or a mask cannot be used; names the file.
        """
        return scan_split(self.source.read(self.val_split))

    @cached_property
    def class_labels(self) -> ClassLabels:
        """Which labels are classes, checked against all masks.

        Raises:
            ValueError: the labels do not fit the names, or a mask has a label of no class.
        """
        found = class_labels(self.train_scan, self.ignore, self.source.table)
        for scan in (self.train_scan, self.val_scan):
            check_labels(scan, found)
        return found

    @property
    def pixels(self) -> tuple[int, ...]:
        """Pixels of each class in the training masks."""
        return self.train_scan.pixels(self.class_labels)

    def setup(self, stage: str) -> None:
        """Says what is trained on; the files have been read by then."""
        sizes = {"val": len(self.val_scan.samples), "train": len(self.train_scan.samples)}
        logger.info("images: %s; %d classes", sizes, len(self.class_labels.labels))

    def train_dataloader(self) -> BatchLoader:
        """Shuffled full batches; under a trainer, from its current step on."""
        warn_of_other_batches(self._resumed, self.state_dict())
        return self._loader(
            self.train_scan,
            MaskTrainTransform(self.augment, self.config, self.seed),
            training_batches(
                self.trainer, len(self.train_scan.samples), self.batch_size, self.seed
            ),
            None if self.trainer is None else partial(resume_position, self.trainer),
        )

    def val_dataloader(self) -> BatchLoader:
        """Every image once, in order."""
        rank, world_size = rank_and_world_size(self.trainer)
        length = len(self.val_scan.samples)
        return self._loader(
            self.val_scan,
            MaskEvalTransform(self.config),
            EpochBatches(length, self.val_batch_size, rank=rank, world_size=world_size),
            lambda: _FROM_START,
        )

    def state_dict(self) -> dict[str, Any]:
        """Everything that determines the batches, except the step, which Lightning saves."""
        return {
            "seed": self.seed,
            "batch_size": self.batch_size,
            "world_size": rank_and_world_size(self.trainer)[1],
            "images": len(self.train_scan.samples),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keeps the interrupted run's settings, to warn of changes."""
        self._resumed = state_dict

    def _loader(
        self,
        scan: SplitScan,
        transform: MaskTransform,
        batches: EpochBatches,
        position: Callable[[], Position] | None,
    ) -> BatchLoader:
        return BatchLoader(
            MaskedImages(scan.samples, self.class_labels, transform),
            batches,
            collate=stack_samples,
            restore=identity,
            num_workers=self.num_workers,
            pin_memory=torch.cuda.is_available(),
            position=position,
        )
