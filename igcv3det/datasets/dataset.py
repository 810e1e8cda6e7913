"""A data set of any format: which one it is, its splits, and their records.

A data set without a validation split has one all the same: a fixed share of its images, drawn with
seed 0, so that every command holds out the same ones.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from types import ModuleType
from typing import Final

import numpy as np

from igcv3det.datasets.checks import require_same_categories
from igcv3det.datasets.formats import (
    DataFormat,
    coco_layout,
    csv_tables,
    cvat,
    labelme,
    voc,
    yolo,
)
from igcv3det.datasets.formats.folders import (
    ALL,
    Splits,
    files_ending,
    folders_of_splits,
    images_below,
    split_name,
)
from igcv3det.datasets.issues import AnnotationError, summarize
from igcv3det.datasets.record_cache import FILE_AN_IMAGE, cached_splits
from igcv3det.datasets.splitting import random_images
from igcv3det.datasets.subsets import SplitRecord, joined, with_images

logger = logging.getLogger(__name__)

HELD_OUT_SHARE: Final = 0.2
_READERS: Final[dict[DataFormat, ModuleType]] = {
    "coco": coco_layout,
    "yolo": yolo,
    "voc": voc,
    "labelme": labelme,
    "cvat": cvat,
    "csv": csv_tables,
}
_NAMES: Final[dict[DataFormat, str]] = {
    "coco": "COCO JSON",
    "yolo": "YOLO",
    "voc": "Pascal VOC",
    "labelme": "LabelMe",
    "cvat": "CVAT XML",
    "csv": "CSV",
}
_SHOWN_BY: Final[dict[DataFormat, str]] = {
    "coco": "annotations/instances_*.json, train/_annotations.coco.json, or JSON with images, "
    "annotations and categories",
    "yolo": "data.yaml with names, or labels/*.txt or labels beside the images with a classes.txt",
    "voc": "Annotations/*.xml, or XML beside the images",
    "labelme": "JSON with shapes",
    "cvat": "XML with <annotations>",
    "csv": "a table with image, xmin, ymin, xmax, ymax, label",
}


class Dataset:
    """A data set; its files are read when a split is.

    Args:
        path: its folder, or its annotation file.
        data_format: None recognises it by looking.
        progress: called with the number of images read and that of all, split by split, where the
            format has a file an image.

    Attributes:
        format: which one it has.

    Raises:
        FileNotFoundError: there is no such file or folder.
        AnnotationError: no format is recognised, or several are; the message lists them.
    """

    def __init__(
        self,
        path: str | Path,
        data_format: DataFormat | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self.path = Path(path)
        if not self.path.exists():
            raise FileNotFoundError(f"{self.path}: no such data set")
        self.format: DataFormat
        self.format, place = _located(self.path, data_format)
        open_splits = _READERS[self.format].open_splits
        if self.format in FILE_AN_IMAGE:
            open_splits = partial(open_splits, progress=progress)
        self._splits: Splits = open_splits(place)
        if self.format != "yolo" or not yolo.reads_outside(place):
            self._splits = cached_splits(self.format, place, self._splits)
        if place.is_dir() and ALL not in self._splits:
            _warn_of_unread_folders(place, tuple(self._splits))

    @property
    def splits(self) -> list[str]:
        """Names of the splits that the data set itself has; "all" for one without."""
        return list(self._splits)

    @property
    def description(self) -> str:
        """Format and splits, for a message: YOLO (train, val)."""
        return f"{_NAMES[self.format]} ({', '.join(self._splits)})"

    def notice(self, split: str) -> str | None:
        """One line for the user if a split is not the data set's own; None otherwise."""
        if "val" in self._splits or split not in ("train", "val"):
            return None
        share = f"{100 * HELD_OUT_SHARE:.0f} %"
        return (
            f"{self.path} has no validation split: {share} of its images are it, drawn with seed 0"
        )

    def read(self, split: str) -> SplitRecord:
        """The record of a split.

        Args:
            split: "train", "val", "test", or "all" images. Where there is no "val", it is a fifth
                of the training images (of all, if there is no split at all), and "train" the rest.

        Raises:
            AnnotationError: there is no such split, its files cannot be understood, none of its
                images can be used, or the files of "all" list different categories.
        """
        if split == ALL:
            parts = [self._read(name) for name in self._splits]
            first, *others = (part.record for part in parts)
            for other in others:
                require_same_categories(first.categories, first.path, other.categories, other.path)
            return _with_any_image(joined(self.path, parts))
        if split in self._splits and (split != "train" or "val" in self._splits):
            return _with_any_image(self._read(split))
        source = "train" if "train" in self._splits else ALL
        if split not in ("train", "val") or source not in self._splits:
            have = ", ".join(self._splits)
            raise AnnotationError(f"{self.path}: has no split {split!r}; it has {have}")
        return self._held_out(source, is_validation=split == "val")

    def split_names(self, split: str) -> list[str]:
        """The split of each image of `read`, in its order; empty where all are of one."""
        if split != ALL or len(self._splits) < 2:
            return []
        counts = {name: len(self._read(name).record.images) for name in self._splits}
        return [name for name, count in counts.items() for _ in range(count)]

    @cache  # noqa: B019 (a data set lives as long as the command)
    def _read(self, split: str) -> SplitRecord:
        return self._splits[split]()

    def _held_out(self, source: str, *, is_validation: bool) -> SplitRecord:
        record, folder = _with_any_image(self._read(source))
        images = [(entry.image_id, entry.file_name) for entry in record.images]
        if len(images) < 2:
            raise AnnotationError(
                f"{self.path}: {len(images)} images are too few for training and validation"
            )
        share = max(HELD_OUT_SHARE, 1 / len(images))
        chosen = np.isin(record.images.ids, list(random_images(images, share, 0)))
        return SplitRecord(with_images(record, chosen if is_validation else ~chosen), folder)


def _with_any_image(split: SplitRecord) -> SplitRecord:
    """The split, unless what is wrong with it has left no image."""
    record = split.record
    if record.issues and not len(record.images):
        summary = summarize(record.issues, record.path)
        raise AnnotationError(f"{summary}; no image is left that can be used")
    return split


@cache
def _warn_of_unread_folders(place: Path, splits: tuple[str, ...]) -> None:
    """Names folders of images that are named after a split without annotations, once a process."""
    for folder in folders_of_splits(place):
        if split_name(folder.name) not in splits and (count := len(images_below(folder))):
            logger.warning(
                "%s: %d images without annotations of a split %s: not used",
                *(folder, count, split_name(folder.name)),
            )


def _located(path: Path, wanted: DataFormat | None) -> tuple[DataFormat, Path]:
    """The format of a data set, and its folder: the one given, or the only folder in it."""
    for place in filter(None, (path, _only_folder(path))):
        found = _found(place, wanted)
        if len(found) == 1:
            return next(iter(found)), place
        if found:
            break
    if wanted is not None:
        raise AnnotationError(
            f"{path}: has nothing of the format {wanted}, which is {_SHOWN_BY[wanted]}"
        )
    if found:
        listed = " and ".join(f"{_NAMES[name]} ({file})" for name, file in found.items())
        raise AnnotationError(
            f"{path}: holds {len(found)} formats: {listed}; choose one with --format "
            f"{'|'.join(found)}"
        )
    empty = [file for place in (path, path / "annotations") for file in _empty_files(place)]
    hint = f"; {empty[0]} is empty" if empty else ""
    known = "; ".join(f"{name} ({_SHOWN_BY[key]})" for key, name in _NAMES.items())
    raise AnnotationError(
        f"{path}: not recognised as a data set{hint}; recognised are {known}: see docs/data.md"
    )


def _empty_files(folder: Path) -> list[Path]:
    files = files_ending(folder, ".json", ".xml", ".csv", ".yaml", ".yml")
    return [file for file in files if file.is_file() and not file.stat().st_size]


def _found(path: Path, wanted: DataFormat | None) -> dict[DataFormat, str]:
    """Formats that the files of a folder show, with the file that shows each."""
    readers = _READERS if wanted is None else {wanted: _READERS[wanted]}
    found = {name: reader.recognise(path) for name, reader in readers.items()}
    return {name: file for name, file in found.items() if file is not None}


def _only_folder(path: Path) -> Path | None:
    """The one folder in a folder, as archives unpack."""
    if not path.is_dir():
        return None
    folders = [one for one in path.iterdir() if one.is_dir() and not one.name.startswith(".")]
    return folders[0] if len(folders) == 1 else None
