"""A data set's annotations in a few flat arrays.

Lists of dictionaries cost about 500 bytes a box in every worker process, because counting
references writes to the memory that fork would have shared. Flat arrays cost 20 and stay shared.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from igcv3det.structures import Categories


class AnnotationError(ValueError):
    """Annotations that cannot be used; the message names the file and the field."""


class ImageEntry(NamedTuple):
    """One row of the list of images.

    Attributes:
        image_id: the data set's own id.
        file_name: path below the folder of the images, with forward slashes.
        size: (height, width) in pixels, as annotated.
    """

    image_id: int
    file_name: str
    size: tuple[int, int]


@dataclass(frozen=True)
class AnnotationStore:
    """Images, boxes and labels of a data set; build it with `build_store`.

    I images, N boxes; the boxes of image ``i`` are rows ``starts[i]:starts[i + 1]``.

    Attributes:
        categories: what the labels mean.
        image_ids: [I] int64.
        sizes: [I, 2] int32 (height, width).
        names: file names one after another, UTF-8.
        name_starts: [I + 1] int32 into ``names``.
        starts: [I + 1] int32 into the arrays below.
        boxes: [N, 4] float32 xyxy, pixels of the original image.
        labels: [N] int16 in 1..K.
        is_crowd: [N] bool, regions that are neither objects nor background.
    """

    categories: Categories
    image_ids: NDArray[np.int64]
    sizes: NDArray[np.int32]
    names: bytes
    name_starts: NDArray[np.int32]
    starts: NDArray[np.int32]
    boxes: NDArray[np.float32]
    labels: NDArray[np.int16]
    is_crowd: NDArray[np.bool_]

    def __len__(self) -> int:
        """Images."""
        return len(self.image_ids)

    @property
    def nbytes(self) -> int:
        """Memory of the whole store."""
        values = [getattr(self, field.name) for field in dataclasses.fields(self)]
        arrays = [value for value in values if isinstance(value, np.ndarray)]
        return len(self.names) + sum(array.nbytes for array in arrays)

    def image(self, index: int) -> ImageEntry:
        """Id, file name and size of one image."""
        start, end = self.name_starts[index], self.name_starts[index + 1]
        height, width = self.sizes[index].tolist()
        return ImageEntry(
            int(self.image_ids[index]), self.names[start:end].decode(), (height, width)
        )

    def rows(self, index: int) -> slice:
        """Where one image's boxes are in ``boxes``, ``labels`` and ``is_crowd``."""
        return slice(int(self.starts[index]), int(self.starts[index + 1]))


def build_store(
    categories: Categories,
    images: Sequence[ImageEntry],
    image_indices: NDArray[np.int32],
    boxes: NDArray[np.float32],
    labels: NDArray[np.int16],
    is_crowd: NDArray[np.bool_],
) -> AnnotationStore:
    """Sorts boxes by image and packs everything.

    Args:
        categories: what the labels mean.
        images: I rows, in the order that the store will have.
        image_indices: [N] row in ``images`` of every box, in any order.
        boxes: [N, 4] xyxy, pixels of the original image.
        labels: [N] in 1..K.
        is_crowd: [N].

    Returns:
        A store in which the boxes of one image keep the order given.
    """
    order = np.argsort(image_indices, kind="stable")
    counts = np.bincount(image_indices, minlength=len(images))
    names = [entry.file_name.encode() for entry in images]
    return AnnotationStore(
        categories=categories,
        image_ids=np.array([entry.image_id for entry in images], dtype=np.int64),
        sizes=np.array([entry.size for entry in images], dtype=np.int32).reshape(-1, 2),
        names=b"".join(names),
        name_starts=_starts([len(name) for name in names]),
        starts=_starts(counts),
        boxes=boxes[order],
        labels=labels[order],
        is_crowd=is_crowd[order],
    )


def _starts(lengths: Sequence[int] | NDArray[np.intp]) -> NDArray[np.int32]:
    starts = np.zeros(len(lengths) + 1, dtype=np.int32)
    np.cumsum(lengths, out=starts[1:])
    return starts
