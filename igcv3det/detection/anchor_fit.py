"""Anchors fitted to the boxes of a data set: k-means with IoU as the likeness of two shapes.

Redmon and Farhadi, YOLO9000, arXiv:1612.08242, section 2 "Dimension Clusters". Here the clusters
start from the detector's own anchors and each stays near its start, because the prediction layers
were trained for them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Shapes = Sequence[Sequence[tuple[float, float]]]
"""(width, height) of the anchors of a cell, level by level, as shares of the image's side."""
_ROUNDS = 30
_MIN_SHARE = 1e-3  # of the boxes: an anchor that fewer are nearest to stays as it is


def fit_shapes(
    sides: NDArray[np.float64], weights: NDArray[np.float64], shapes: Shapes, bound: float
) -> list[list[tuple[float, float]]]:
    """Moves each anchor towards the boxes that it fits best.

    Args:
        sides: [N, 2] width and height of the boxes, as shares of their image.
        weights: [N], how much each box counts.
        shapes: the anchors to start from.
        bound: no side changes by more than this factor.

    Returns:
        As many shapes as before on every level, at most 1 wide and high; a mean of widths and
        heights is that of their logarithms.

    Example:
        >>> fit_shapes(np.array([[0.2, 0.1]] * 4), np.ones(4), [[(0.1, 0.1)]], 2.0)
        [[(0.2, 0.1)]]
    """
    first = np.array([shape for level in shapes for shape in level])
    centres = first.clip(max=1.0)
    for _ in range(_ROUNDS):
        nearest = _ious(sides, centres).argmax(axis=1)
        moved = centres.copy()
        for index in range(len(centres)):
            own = nearest == index
            if own.sum() >= max(2, _MIN_SHARE * len(sides)):
                mean = np.average(np.log(sides[own]), axis=0, weights=weights[own])
                moved[index] = np.exp(mean)
        moved = moved.clip(first / bound, first * bound).clip(max=1.0)
        if np.allclose(moved, centres, rtol=1e-3):
            break
        centres = moved
    fitted = iter(centres.round(4).tolist())
    return [[tuple(next(fitted)) for _ in level] for level in shapes]


def _ious(sides: NDArray[np.float64], shapes: NDArray[np.float64]) -> NDArray[np.float64]:
    """[N, A] IoU of boxes and anchors with one centre."""
    shared = np.minimum(sides[:, None], shapes[None]).prod(axis=2)
    joined = sides.prod(axis=1)[:, None] + shapes.prod(axis=1)[None] - shared
    return np.asarray(shared / joined)
