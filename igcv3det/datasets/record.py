"""The record that every reader of an annotation format returns, in a few flat arrays.

It holds what the file says in the data set's own terms: boxes as given, beyond the image or without
area too. Evaluation scores this record; training takes what `datasets.checks` leaves of it.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from igcv3det.datasets.issues import DatasetIssue
from igcv3det.structures import Categories

NO_ID = int(np.iinfo(np.int64).min)
"""In `AnnotationRecord.annotation_ids`: the file gives none that is a whole number."""


@dataclass(frozen=True)
class Texts:
    """L texts in two flat arrays: a list of texts takes some fifty bytes more for each.

    Attributes:
        data: the texts one after another, UTF-8.
        starts: [L + 1] int32 into ``data``.
    """

    data: bytes = b""
    starts: NDArray[np.int32] = field(default_factory=lambda: np.zeros(1, np.int32), compare=False)

    @classmethod
    def of(cls, texts: Iterable[str]) -> Texts:
        """Packs texts."""
        collected = TextCollector()
        for text in texts:
            collected.append(text)
        return collected.build()

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, row: int) -> str:
        start, end = self.starts[row], self.starts[row + 1]
        return self.data[start:end].decode("utf-8", "surrogatepass")

    def __iter__(self) -> Iterator[str]:
        return (self[row] for row in range(len(self)))


class TextCollector:
    """Texts that become `Texts`."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._starts = array("i", [0])

    def append(self, text: str) -> None:
        """Adds a text."""
        # file names may hold any bytes, which JSON and Python write as lone surrogates
        self._data += text.encode("utf-8", "surrogatepass")
        self._starts.append(len(self._data))

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __getitem__(self, row: int) -> str:
        start, end = self._starts[row], self._starts[row + 1]
        return self._data[start:end].decode("utf-8", "surrogatepass")

    def build(self) -> Texts:
        """All of them."""
        return Texts(bytes(self._data), np.array(self._starts, np.int32))


class ImageEntry(NamedTuple):
    """One row of the list of images.

    Attributes:
        image_id: the data set's own id.
        file_name: path below the folder of the images (`datasets.image_files.ImageFolder`).
        size: (height, width) in pixels of the frame that the boxes are in; None if not given.
        is_upright: that frame is a viewer's, with the EXIF orientation; else the size tells.
    """

    image_id: int
    file_name: str
    size: tuple[int, int] | None
    is_upright: bool = False


@dataclass(frozen=True)
class ImageTable:
    """A list of I images in flat arrays; ``table[row]`` is an `ImageEntry`.

    Attributes:
        ids: [I] int64, the data set's own.
        sizes: [I, 2] int32 (height, width) in pixels; (0, 0) if not given.
        names: [I] file names.
        is_upright: [I] bool, as in `ImageEntry`.
    """

    ids: NDArray[np.int64]
    sizes: NDArray[np.int32]
    names: Texts
    is_upright: NDArray[np.bool_]

    @classmethod
    def of(cls, entries: Iterable[ImageEntry]) -> ImageTable:
        """Packs entries."""
        entries = list(entries)
        return cls(
            ids=np.array([entry.image_id for entry in entries], dtype=np.int64),
            sizes=np.array([entry.size or (0, 0) for entry in entries], np.int32).reshape(-1, 2),
            names=Texts.of(entry.file_name for entry in entries),
            is_upright=np.array([entry.is_upright for entry in entries], np.bool_),
        )

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, row: int) -> ImageEntry:
        height, width = self.sizes[row].tolist()
        size = (height, width) if height else None
        return ImageEntry(int(self.ids[row]), self.names[row], size, bool(self.is_upright[row]))

    def __iter__(self) -> Iterator[ImageEntry]:
        return (self[row] for row in range(len(self)))

    @property
    def nbytes(self) -> int:
        """Memory of the table."""
        names = len(self.names.data) + self.names.starts.nbytes
        return names + self.ids.nbytes + self.sizes.nbytes + self.is_upright.nbytes


@dataclass(frozen=True)
class AnnotationRecord:
    """What an annotation file says: I images and N annotations of them.

    Attributes:
        path: the file, for messages.
        categories: what the labels mean.
        images: in the file's order, each id once.
        image_rows: [N] int32, row in ``images`` of every annotation.
        labels: [N] int16 in 1..K.
        boxes: [N, 4] float64 (x, y, width, height), pixels of the original image, as given.
        areas: [N] float64, px² as given, else width times height.
        is_crowd: [N] bool, regions that are neither objects nor background.
        scores: [N] float32, of boxes that a detector found; NaN for annotated ones.
        annotation_ids: [N] int64, for messages only; `NO_ID` where there is none.
        positions: [N] int32, of every annotation in the file's list.
        issues: entries that were dropped, and what else is odd about the file.
        label_files: [I], the file that describes each image, for messages; empty where all are
            described by ``path``.
        position_text: what ``positions`` count, for messages.
    """

    path: Path
    categories: Categories
    images: ImageTable
    image_rows: NDArray[np.int32]
    labels: NDArray[np.int16]
    boxes: NDArray[np.float64]
    areas: NDArray[np.float64]
    is_crowd: NDArray[np.bool_]
    scores: NDArray[np.float32]
    annotation_ids: NDArray[np.int64]
    positions: NDArray[np.int32]
    issues: tuple[DatasetIssue, ...] = ()
    label_files: Texts = field(default_factory=Texts)
    position_text: str = "annotations[{}]"

    def __len__(self) -> int:
        """Annotations."""
        return len(self.labels)

    def file_of(self, image_row: int) -> str:
        """The file that describes an image, for messages."""
        return self.label_files[image_row] if len(self.label_files) else str(self.path)


def row_starts(lengths: Sequence[int] | NDArray[np.intp]) -> NDArray[np.int32]:
    """[L + 1]: where each of L groups of rows begins, and the end."""
    starts = np.zeros(len(lengths) + 1, dtype=np.int32)
    np.cumsum(lengths, out=starts[1:])
    return starts
