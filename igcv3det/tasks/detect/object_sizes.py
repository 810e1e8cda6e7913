"""How small the objects of a data set are in a network's input."""

from __future__ import annotations

import numpy as np

from igcv3det.datasets.store import AnnotationStore

SMALL_PX, SMALL_SHARE = 12.0, 0.25
"""Where so many objects are narrower than this in the network's input, it is enlarged ..."""
ENLARGED = 1.5
"""... by this factor, to a multiple of 32."""


def narrow_share(store: AnnotationStore, image_size: int) -> float:
    """Share of the objects narrower than ``SMALL_PX`` in an input of this side."""
    is_object = ~store.is_crowd
    rows = np.repeat(np.arange(len(store)), np.diff(store.starts))[is_object]
    boxes = store.boxes[is_object]
    sides = (boxes[:, 2:] - boxes[:, :2]) / store.images.sizes[rows][:, ::-1]
    narrow = sides.min(axis=1) * image_size < SMALL_PX
    return float(narrow.mean()) if len(narrow) else 0.0


def fitting_size(own: int, share: float) -> int:
    """The side to train at: the detector's own, or larger for many narrow objects.

    Args:
        own: side of the detector's input.
        share: of `narrow_share` there.
    """
    return round(own * ENLARGED / 32) * 32 if share > SMALL_SHARE else own
