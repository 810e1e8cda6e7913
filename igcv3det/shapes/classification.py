"""Synthetic images of one shape each, for classification in tests and first runs.

Outlines, textures and clutter are those of `igcv3det.shapes.dataset`; nothing is written to disk.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from igcv3det.shapes.dataset import CATEGORIES
from igcv3det.shapes.outlines import outline
from igcv3det.shapes.painting import paint_scene

NAMES = tuple(CATEGORIES.values())
_MIN_SIDE, _MAX_SIDE = 0.5, 0.85
"""Size of an outline as a share of the image's side."""


def draw_classes(
    count: int, side: int = 32, seed: int = 0, split: int = 0
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Generates images of one shape each, classes in turn.

    Args:
        count: number of images.
        side: of an image, pixels.
        seed: of shapes and pixels; the same seed gives the same images.
        split: 0 for training, 1 for validation; no image is in both.

    Returns:
        [count, side, side, 3] RGB and [count] labels, indices into `NAMES`.

    Raises:
        ValueError: fewer images than classes, or a side below 16 pixels.
    """
    if count < len(NAMES) or side < 16:
        raise ValueError(f"need at least {len(NAMES)} images of 16 pixels, got {count} of {side}")
    labels = np.arange(count, dtype=np.int64) % len(NAMES)
    images = np.empty((count, side, side, 3), np.uint8)
    for index, label in enumerate(labels):
        rng = np.random.default_rng([seed, split, index, 2])
        extent = side * rng.uniform(_MIN_SIDE, _MAX_SIDE)
        x, y = side / 2 + rng.uniform(-0.1, 0.1, 2) * side
        turn, squeeze = rng.uniform(-np.pi / 6, np.pi / 6), rng.uniform(0.8, 1)
        contours = outline(NAMES[label], (x, y), extent, turn, squeeze, rng.uniform(0, np.pi))
        images[index] = paint_scene(rng, side, side, [contours])
    return images, labels
