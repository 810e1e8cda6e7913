"""Other ways to read four numbers of a box, and whether one of them fits the images better."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from igcv3det.datasets.record import AnnotationRecord

Boxes = NDArray[np.float64]
"""[N, 4] (x, y, width, height)."""

MIN_BOXES = 10
"""Fewer show no system."""
FITTING, NOT_FITTING = 0.99, 0.9
"""A reading is named if at least the first share of the boxes fits their images in it, and at most
the second as given."""
TOLERANCE_PX = 1.0
_MIN_SHIFT_PX = 2.0


@dataclass(frozen=True)
class BoxFinding:
    """Boxes that look wrong all in the same way.

    Attributes:
        kind: of mistake.
        count: boxes.
        detail: what shows it.
    """

    kind: str
    count: int
    detail: str


def from_corners(boxes: Boxes) -> Boxes:
    """Boxes whose numbers are (xmin, ymin, xmax, ymax)."""
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)


def from_centres(boxes: Boxes) -> Boxes:
    """Boxes whose numbers are (x, y) of the centre and the sides."""
    return np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, 2:]], axis=1)


def transposed(boxes: Boxes) -> Boxes:
    """Boxes with x and y exchanged, and so their sides."""
    return boxes[:, [1, 0, 3, 2]]


def turned(boxes: Boxes) -> Boxes:
    """Boxes with width and height exchanged."""
    return boxes[:, [0, 1, 3, 2]]


READINGS: Final[dict[str, Callable[[Boxes], Boxes]]] = {
    "corners read as sides": from_corners,
    "x and y exchanged": transposed,
    "width and height exchanged": turned,
    "centres read as corners": from_centres,
}
"""By the mistake that each undoes."""


def box_findings(record: AnnotationRecord) -> list[BoxFinding]:
    """What is wrong with many boxes in the same way.

    Args:
        record: as its reader returns it; boxes beyond their images count too.
    """
    sizes = record.images.sizes[record.image_rows][:, ::-1].astype(np.float64)
    has_size = (sizes > 0).all(axis=1)
    boxes, limits = record.boxes[has_size], sizes[has_size]
    found = _reversed(boxes, limits)
    if len(boxes) < MIN_BOXES:
        return found
    is_share = (boxes >= 0).all(axis=1) & (boxes[:, :2] + boxes[:, 2:] <= 1.001).all(axis=1)
    if is_share.mean() >= NOT_FITTING:
        detail = "all coordinates are within 0..1: shares of the image, not pixels"
        return [*found, BoxFinding("normalised boxes", int(is_share.sum()), detail)]
    fits = _fits(boxes, limits)
    if fits.mean() > NOT_FITTING:
        return found + _shift(boxes, limits)
    beyond = int((~fits).sum())
    shares = {kind: _fits(read(boxes), limits).mean() for kind, read in READINGS.items()}
    kind = max(shares, key=lambda key: shares[key])
    if shares[kind] >= FITTING:
        detail = f"as given {beyond} of {len(boxes)} boxes do not fit their images, read otherwise "
        detail += "all do" if shares[kind] == 1 else f"{shares[kind]:.1%} do"
        return [*found, BoxFinding(kind, beyond, detail)]
    return found + _shift(boxes, limits)


def _reversed(boxes: Boxes, limits: NDArray[np.float64]) -> list[BoxFinding]:
    """Boxes with a negative side that fit with their corners in order."""
    low = np.minimum(boxes[:, :2], boxes[:, :2] + boxes[:, 2:])
    in_order = np.concatenate([low, abs(boxes[:, 2:])], axis=1)
    is_reversed = (boxes[:, 2:] < 0).any(axis=1) & _fits(in_order, limits)
    if not is_reversed.any():
        return []
    detail = "the first corner is right of or below the second"
    return [BoxFinding("corners in reverse order", int(is_reversed.sum()), detail)]


def _shift(boxes: Boxes, limits: NDArray[np.float64]) -> list[BoxFinding]:
    """An offset that many boxes show on one side and none contradicts on the other."""
    before, after = boxes[:, :2], limits - boxes[:, :2] - boxes[:, 2:]
    offsets = []
    for axis in (0, 1):
        low, high = (float(np.quantile(gap[:, axis], 0.01)) for gap in (before, after))
        offset = -high if high < 0 < low else low if low < 0 < high else 0.0
        room = low if offset > 0 else high
        is_shift = _MIN_SHIFT_PX <= abs(offset) <= room + TOLERANCE_PX
        offsets.append(offset if is_shift else 0.0)
    moved = boxes - np.array([*offsets, 0, 0])
    fits = _fits(boxes, limits)
    if not any(offsets) or _fits(moved, limits).mean() < FITTING - 0.02:
        return []
    detail = f"moved by ({round(-offsets[0])}, {round(-offsets[1])}) px they fit their images"
    return [BoxFinding("shifted boxes", int((~fits).sum()), detail)]


def _fits(boxes: Boxes, limits: NDArray[np.float64]) -> NDArray[np.bool_]:
    """[N], whether a box has an area and lies in its image of (width, height)."""
    high = boxes[:, :2] + boxes[:, 2:]
    inside = (boxes[:, :2] >= -TOLERANCE_PX) & (high <= limits + TOLERANCE_PX)
    fits: NDArray[np.bool_] = np.all(inside & (boxes[:, 2:] > 0), axis=1)
    return fits
