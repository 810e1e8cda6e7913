"""Outlines of the synthetic classes, their boxes, and the visible share of an outline.

Coordinates are (x, y) in pixels of an image whose pixel (i, j) covers i..i+1, j..j+1, as in COCO's
boxes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
"""[P, 2] of (x, y)."""
Contours = Sequence[Points]
"""Closed polygons; a second one inside the first is a hole."""

_SAMPLES = 24
"""Points along a side of the grid that estimates visibility."""


def _circle(radius: float) -> Points:
    turn = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    return radius * np.stack([np.cos(turn), np.sin(turn)], axis=1)


def _star() -> Points:
    turn = np.linspace(0, 2 * np.pi, 10, endpoint=False) - np.pi / 2
    radius = np.where(np.arange(10) % 2 == 0, 1.0, 0.45)
    return np.stack([radius * np.cos(turn), radius * np.sin(turn)], axis=1)


def _cross() -> Points:
    arm = 0.34
    upper = [(-arm, -1.0), (arm, -1.0), (arm, -arm)]
    right = [(1.0, -arm), (1.0, arm), (arm, arm)]
    lower = [(arm, 1.0), (-arm, 1.0), (-arm, arm)]
    left = [(-1.0, arm), (-1.0, -arm), (-arm, -arm)]
    return np.array(upper + right + lower + left)


_HALF_BASE = 3**0.5 / 2
_OUTLINES: dict[str, list[Points]] = {
    "disc": [_circle(1.0)],
    "triangle": [np.array([(0.0, -1.0), (_HALF_BASE, 0.5), (-_HALF_BASE, 0.5)])],
    "square": [np.array([(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)])],
    "star": [_star()],
    "cross": [_cross()],
    "ring": [_circle(1.0), _circle(0.58)],
}
"""Within -1..1 on both axes, upright."""


def outline(
    name: str,
    centre: tuple[float, float],
    side: float,
    turn: float = 0.0,
    squeeze: float = 1.0,
    tilt: float = 0.0,
) -> list[Points]:
    """The contours of one object.

    Args:
        name: a class of the data set.
        centre: (x, y) in pixels.
        side: size before squeezing, pixels: a square's side, a disc's diameter.
        turn: rotation, radians.
        squeeze: scale along one direction.
        tilt: that direction, radians.

    Returns:
        The outer contour and, for the ring, the inner one.

    Raises:
        ValueError: no such class.
    """
    if name not in _OUTLINES:
        raise ValueError(f"no outline {name!r}; there are {sorted(_OUTLINES)}")
    unsqueezed = _rotation(turn) * (side / 2)
    slant = _rotation(tilt) @ np.diag([squeeze, 1.0]) @ _rotation(-tilt)
    return [contour @ (slant @ unsqueezed).T + centre for contour in _OUTLINES[name]]


def _rotation(angle: float) -> NDArray[np.float64]:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def outline_box(contours: Contours, height: int, width: int) -> tuple[float, float, float, float]:
    """The box around the whole outline with its occluded parts, clipped to the image.

    Returns:
        xyxy in pixels, rounded to hundredths.
    """
    low = np.clip(contours[0].min(axis=0), 0, (width, height))
    high = np.clip(contours[0].max(axis=0), 0, (width, height))
    x0, y0, x1, y1 = (round(float(value), 2) for value in (*low, *high))
    return x0, y0, x1, y1


def contains(contours: Contours, points: Points) -> NDArray[np.bool_]:
    """[P] bool: whether each point is inside, by the even-odd rule."""
    inside = np.zeros(len(points), dtype=bool)
    x, y = points[:, :1], points[:, 1:]
    for contour in contours:
        x0, y0 = contour.T
        x1, y1 = np.roll(contour, -1, axis=0).T
        crosses = (y0 > y) != (y1 > y)  # [P, V]
        rise = np.where(y1 == y0, 1.0, y1 - y0)
        inside ^= (crosses & (x < x0 + (x1 - x0) * (y - y0) / rise)).sum(axis=1) % 2 == 1
    return inside


def sample(contours: Contours) -> Points:
    """[P, 2] points on a regular grid inside the outline."""
    low, high = contours[0].min(axis=0), contours[0].max(axis=0)
    steps = (np.arange(_SAMPLES) + 0.5) / _SAMPLES
    grid = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)
    points = low + grid * (high - low)
    return np.asarray(points[contains(contours, points)])


def visible_share(points: Points, covers: Sequence[Contours], height: int, width: int) -> float:
    """The visible share of an object.

    Args:
        points: [P, 2] of the object, from `sample`.
        covers: the outlines in front of it.
        height: of the image, pixels.
        width: of the image, pixels.

    Returns:
        Share of the points inside the image and outside of all covers.
    """
    seen = ((points >= 0) & (points < (width, height))).all(axis=1)
    for contours in covers:
        seen &= ~contains(contours, points)
    return float(seen.mean())
