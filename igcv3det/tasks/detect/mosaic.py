"""Four training images in one.

Source: Bochkovskiy et al., YOLOv4, arXiv:2004.10934, section 3.3, "Mosaic". The images meet in a
random point, each as large as the network input, so that objects keep their size there until the
whole is cropped or resized.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from igcv3det.engine.sampler import Key
from igcv3det.tasks.detect.crops import contains_center
from igcv3det.tasks.detect.transforms import Example

_STREAM = 4
"""Tells these draws from those of the transform, which have the same seed, epoch and index."""
_GREY = 127  # where no image reaches


class Mosaic:
    """Joins some samples with three others; all draws follow from seed, epoch and index.

    Args:
        probability: share of the samples, in 0..1.
        side: of each of the four images, pixels; the mosaic has twice that.
        seed: of all draws.
    """

    def __init__(self, probability: float, side: int, seed: int = 0) -> None:
        self.probability = probability
        self.side = side
        self.seed = seed

    def __call__(
        self, example: Example, key: Key, length: int, read: Callable[[int], Example]
    ) -> Example:
        """The example itself, or a mosaic of it and three others.

        Boxes are clipped to the mosaic. Objects are kept if their centre is in it, crowd regions if
        any part is.

        Args:
            example: the sample ``key``.
            key: (epoch, index).
            length: samples of the data set.
            read: returns the example of an index.
        """
        rng = np.random.default_rng((self.seed, *key, _STREAM))
        if rng.random() >= self.probability:
            return example
        others = [read(index) for index in rng.integers(length, size=3).tolist()]
        examples = [example, *others]
        order = rng.permutation(4).tolist()
        center = rng.integers(self.side // 2, self.side + self.side // 2 + 1, size=2)
        canvas = np.full((2 * self.side, 2 * self.side, 3), _GREY, dtype=np.uint8)
        parts = [
            self._placed(canvas, examples[number], center + self._offset(quarter))
            for quarter, number in enumerate(order)
        ]
        boxes, labels = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        return Example(canvas, boxes, labels)

    def _offset(self, quarter: int) -> NDArray[np.int64]:
        """(x, y) of an image's corner relative to the point where the four meet."""
        return np.array([quarter % 2 - 1, quarter // 2 - 1]) * self.side

    def _placed(
        self, canvas: NDArray[np.uint8], example: Example, corner: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Writes an image into the canvas; its boxes [N, 4] in pixels of that, and labels."""
        height, width = example.image.shape[:2]
        image = cv2.resize(example.image, (self.side, self.side), interpolation=cv2.INTER_LINEAR)
        low, high = corner.clip(0), (corner + self.side).clip(max=2 * self.side)
        (left, top), (right, bottom) = low - corner, high - corner
        canvas[low[1] : high[1], low[0] : high[0]] = image[top:bottom, left:right]
        scale = np.array([self.side / width, self.side / height] * 2)
        moved = example.boxes * scale + np.tile(corner, 2)
        bounds = np.array([0.0, 0.0, 2.0 * self.side, 2.0 * self.side])
        kept = contains_center(bounds, moved) | (example.labels == 0)
        boxes = moved.clip(0, 2 * self.side)
        kept &= (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
        return boxes[kept].astype(np.float32), example.labels[kept]
