"""Anchors fitted to the boxes of a data set: k-means with IoU as the likeness of two shapes.

Redmon and Farhadi, YOLO9000, arXiv:1612.08242, section 2 "Dimension Clusters". Here the clusters
start from the detector's own anchors, and only those move that fail their boxes: the prediction
layers were trained for the others, and unlearn what they know when all of them change.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

Shapes = Sequence[Sequence[tuple[float, float]]]
"""(width, height) of the anchors of a cell, level by level, as shares of the image's side."""
_ROUNDS = 30
_MIN_SHARE = 1e-3  # of the boxes: an anchor that fewer are nearest to stays as it is


def fit_shapes(
    sides: NDArray[np.float64],
    weights: NDArray[np.float64],
    is_covered: NDArray[np.bool_],
    shapes: Shapes,
    bound: float,
) -> list[list[tuple[float, float]]]:
    """Moves anchors towards the boxes that no anchor covers.

    A box belongs to the anchor of the most similar shape. An anchor moves to the mean of its
    uncovered boxes if these are more than half of its boxes.

    Args:
        sides: [N, 2] width and height of the boxes, as shares of their image.
        weights: [N], how much each box counts.
        is_covered: [N], whether an anchor where it stands covers the box.
        shapes: the anchors to start from.
        bound: no side changes by more than this factor.

    Returns:
        As many shapes as before on every level; means are those of the logarithms.

    Example:
        >>> uncovered = np.zeros(4, np.bool_)
        >>> fit_shapes(np.array([[0.2, 0.1]] * 4), np.ones(4), uncovered, [[(0.1, 0.1)]], 2.0)
        [[(0.2, 0.1)]]
    """
    first = np.array([shape for level in shapes for shape in level])
    centres, moving = first, np.zeros(len(first), np.bool_)
    for index, own in enumerate(_members(sides, first)):
        uncovered = own & ~is_covered
        moving[index] = weights[uncovered].sum() > weights[own].sum() / 2
    fewest = max(2, _MIN_SHARE * len(sides))
    for _ in range(_ROUNDS):
        moved = centres.copy()
        for index, own in enumerate(_members(sides, centres)):
            uncovered = own & ~is_covered
            if moving[index] and uncovered.sum() >= fewest:
                mean = np.average(np.log(sides[uncovered]), axis=0, weights=weights[uncovered])
                moved[index] = np.exp(mean).clip(first[index] / bound, first[index] * bound)
        if np.allclose(moved, centres, rtol=1e-3):
            break
        centres = moved
    fitted = iter(centres.round(4).tolist())
    return [[tuple(next(fitted)) for _ in level] for level in shapes]


def _members(
    sides: NDArray[np.float64], shapes: NDArray[np.float64]
) -> Iterator[NDArray[np.bool_]]:
    """For each anchor, [N] whether a box is most similar to it."""
    nearest = _ious(sides, shapes).argmax(axis=1)
    return (nearest == index for index in range(len(shapes)))


def _ious(sides: NDArray[np.float64], shapes: NDArray[np.float64]) -> NDArray[np.float64]:
    """[N, A] IoU of boxes and anchors with one centre."""
    shared = np.minimum(sides[:, None], shapes[None]).prod(axis=2)
    joined = sides.prod(axis=1)[:, None] + shapes.prod(axis=1)[None] - shared
    return np.asarray(shared / joined)
