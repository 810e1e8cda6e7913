"""What training learns from, in a few flat arrays.

Lists of dictionaries cost about 500 bytes a box in every worker process, because counting
references writes to the memory that fork would have shared. Flat arrays cost 20 and stay shared.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from igcv3det.datasets.record import ImageTable, row_starts
from igcv3det.structures import Categories


@dataclass(frozen=True)
class AnnotationStore:
    """Images, boxes and labels of a data set; build it with `build_store`.

    I images, N boxes; the boxes of image ``i`` are rows ``starts[i]:starts[i + 1]``.

    Attributes:
        categories: what the labels mean.
        images: I images, all with a size.
        starts: [I + 1] int32 into the arrays below.
        boxes: [N, 4] float32 xyxy, pixels of the original image.
        labels: [N] int16 in 1..K.
        is_crowd: [N] bool, regions that are neither objects nor background.
        scores: [N] float32, of boxes that a detector found, NaN for annotated ones; None if all
            are annotated.
    """

    categories: Categories
    images: ImageTable
    starts: NDArray[np.int32]
    boxes: NDArray[np.float32]
    labels: NDArray[np.int16]
    is_crowd: NDArray[np.bool_]
    scores: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        """Images."""
        return len(self.images)

    @property
    def nbytes(self) -> int:
        """Memory of the whole store."""
        scores = 0 if self.scores is None else self.scores.nbytes
        boxes = self.boxes.nbytes + self.labels.nbytes + self.is_crowd.nbytes
        return self.images.nbytes + self.starts.nbytes + boxes + scores

    def size(self, index: int) -> tuple[int, int]:
        """(height, width) of an image in pixels, as annotated."""
        height, width = self.images.sizes[index].tolist()
        return height, width

    def rows(self, index: int) -> slice:
        """Where one image's boxes are in ``boxes``, ``labels`` and ``is_crowd``."""
        return slice(int(self.starts[index]), int(self.starts[index + 1]))


def build_store(
    categories: Categories,
    images: ImageTable,
    image_rows: NDArray[np.int32],
    boxes: NDArray[np.float32],
    labels: NDArray[np.int16],
    is_crowd: NDArray[np.bool_],
    scores: NDArray[np.float32] | None = None,
) -> AnnotationStore:
    """Sorts boxes by image.

    Args:
        categories: what the labels mean.
        images: I images, in the order that the store will have.
        image_rows: [N] row in ``images`` of every box, in any order.
        boxes: [N, 4] xyxy, pixels of the original image.
        labels: [N] in 1..K.
        is_crowd: [N].
        scores: [N], or None.

    Returns:
        A store in which the boxes of one image keep the order given.
    """
    order = np.argsort(image_rows, kind="stable")
    counts = np.bincount(image_rows, minlength=len(images))
    return AnnotationStore(
        categories=categories,
        images=images,
        starts=row_starts(counts),
        boxes=boxes[order],
        labels=labels[order],
        is_crowd=is_crowd[order],
        scores=None if scores is None else scores[order],
    )
