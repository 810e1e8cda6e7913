"""The training and the validation split of a run: four paths, or a data set of any format."""

from __future__ import annotations

import logging
from functools import cached_property
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from igcv3det.datasets.coco import read_coco
from igcv3det.datasets.dataset import Dataset
from igcv3det.datasets.formats import DataFormat
from igcv3det.datasets.record import AnnotationRecord
from igcv3det.datasets.subsets import (
    SplitRecord,
    empty_classes,
    used_categories,
    with_categories,
)

logger = logging.getLogger(__name__)

TRAIN, VAL = "train", "val"


class SplitPaths(NamedTuple):
    """Paths of a split below the root; COCO's own where they are None."""

    images: str | None
    annotations: str | None


PATH_KEYS: Final = {
    split: tuple(f"data.{split}_{kind}" for kind in SplitPaths._fields) for split in (TRAIN, VAL)
}
"""Keys of a training's configuration for the paths of each split, in the order of `SplitPaths`."""


class TrainingSplits:
    """The splits of a run, read when they are needed.

    Args:
        root: the data set, or the folder that paths start from.
        train: paths of the training split.
        val: paths of the validation split. Without any of the four the data set is recognised.
        data_format: None recognises it by looking.
        drop_empty_classes: leave out classes without a box in either split.
    """

    def __init__(
        self,
        root: Path,
        train: SplitPaths,
        val: SplitPaths,
        data_format: DataFormat | None = None,
        *,
        drop_empty_classes: bool = False,
    ) -> None:
        self.root = root
        self._paths = {TRAIN: train, VAL: val}
        self._format = data_format
        self.drops_empty_classes = drop_empty_classes

    @cached_property
    def train(self) -> SplitRecord:
        """The training split.

        Raises:
            FileNotFoundError: there is no such file.
            AnnotationError: it cannot be understood.
        """
        return self._chosen(self._train)

    @cached_property
    def val(self) -> SplitRecord:
        """The validation split; errors as of `train`."""
        return self._chosen(self._val)

    @property
    def description(self) -> str:
        """Which files the splits are read from."""
        if not self._has_paths:
            return self._dataset.description
        return f"COCO JSON of {self._file(TRAIN)} and {self._file(VAL)}"

    @property
    def left_out(self) -> list[str]:
        """Names of the classes that are left out."""
        return empty_classes(self._train.record, self.train.record.categories)

    def note_source(self) -> None:
        """Logs what the splits are read from, and how a file without splits is divided.

        Raises:
            FileNotFoundError, AnnotationError: as of `train`.
        """
        logger.info("%s: %s", self.root, self.description)
        if not self._has_paths and (notice := self._dataset.notice(VAL)) is not None:
            logger.warning("%s", notice)

    def note_empty_classes(self) -> None:
        """Names the classes without a training box in the log."""
        record = self.train.record
        used = set(np.unique(record.labels).tolist())
        names = [n for label, n in enumerate(record.categories.names, 1) if label not in used]
        hint = "--data.drop_empty_classes true leaves out those without any box"
        if self.drops_empty_classes:
            hint = "the validation split has boxes of them, which count as missed"
        if names:
            logger.warning(
                "%s: no training box of %d of %d classes: %s%s; %s",
                record.path,
                len(names),
                len(record.categories),
                ", ".join(names[:5]),
                ", ..." if len(names) > 5 else "",
                hint,
            )

    @cached_property
    def _train(self) -> SplitRecord:
        return self._read(TRAIN)

    @cached_property
    def _val(self) -> SplitRecord:
        return self._read(VAL)

    @cached_property
    def _dataset(self) -> Dataset:
        return Dataset(self.root, self._format)

    def _read(self, split: str) -> SplitRecord:
        if not self._has_paths:
            return self._dataset.read(split)
        folder = self.root / (self._paths[split].images or _COCO[split].images)
        return SplitRecord(read_coco(self._file(split)), folder)

    @property
    def _has_paths(self) -> bool:
        return any(path is not None for paths in self._paths.values() for path in paths)

    def _file(self, split: str) -> Path:
        return self.root / (self._paths[split].annotations or _COCO[split].annotations)

    def _chosen(self, split: SplitRecord) -> SplitRecord:
        if not self.drops_empty_classes:
            return split
        return SplitRecord(_with_used(split.record, self._train, self._val), split.images)


class _CocoPaths(NamedTuple):
    images: str
    annotations: str


_COCO: Final = {
    split: _CocoPaths(f"{split}2017", f"annotations/instances_{split}2017.json")
    for split in (TRAIN, VAL)
}


def _with_used(record: AnnotationRecord, *splits: SplitRecord) -> AnnotationRecord:
    records = [split.record for split in splits]
    if any(other.categories != record.categories for other in records):
        return record  # refused when the training split is checked
    return with_categories(record, used_categories(records))
