"""Large images in overlapping tiles: where the tiles are, and one set of detections from all.

A tile cuts objects at its borders. Their parts are recognised by touching a border of their tile
that is inside the image, and are matched within the strip that two tiles share, where both see the
same of an object. A part goes where another tile has the whole object; parts of an object that no
tile has whole are joined.

The idea of slicing and merging: Akyon et al., SAHI, arXiv:2202.06934; it merges by the overlap of
whole boxes, which halves of an object hardly have.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from igcv3det.detection.iou import box_area, box_iou
from igcv3det.detection.nms import class_wise_nms
from igcv3det.structures import Detections

Image = NDArray[np.uint8]
Window = tuple[int, int, int, int]
"""Left, top, right and bottom of a tile, pixels of the image."""
OVERLAP = 0.2
"""Share of a tile's side that it has in common with the next, at least."""
MIN_SIZE = 16
"""Of a tile's side, pixels."""
_Boxes = NDArray[np.float32]
_Mask = NDArray[np.bool_]

_BORDER_SHARE = 0.02
"""Of a tile's side: a box that ends closer to a border is taken for cut by it."""
_SAME_PART = 0.5
"""IoU of two boxes within the strip that their tiles share, from which they are one object."""


class TileDetector:
    """Detects the objects of large images in overlapping tiles, and in each image as a whole.

    The whole image adds objects that are larger than a tile.

    Args:
        size: of a tile's side, pixels of the image, at least 16.
        iou_threshold: of the NMS between tiles.
        limit: number of detections of an image at most; None for no limit.
        at_once: tiles that are detected together.

    Raises:
        ValueError: ``size`` is too small.
    """

    def __init__(
        self, size: int, iou_threshold: float, limit: int | None = None, at_once: int = 2
    ) -> None:
        if size < MIN_SIZE:
            raise ValueError(f"tile must be >= {MIN_SIZE} pixels, got {size}")
        self.size = size
        self.iou_threshold = iou_threshold
        self.limit = limit
        self.at_once = at_once

    def __call__(
        self, images: Sequence[Image], detect: Callable[[Sequence[Image]], list[Detections]]
    ) -> list[Detections]:
        """Detects the objects of several images, of any sizes.

        Args:
            images: [H, W, 3] uint8 RGB each.
            detect: detects the objects of small images together.
        """
        return [self._one_image(image, detect) for image in images]

    def _one_image(
        self, image: Image, detect: Callable[[Sequence[Image]], list[Detections]]
    ) -> Detections:
        height, width = image.shape[:2]
        windows = tile_windows(height, width, self.size)
        if len(windows) == 1:
            return detect([image])[0]
        windows.append((0, 0, width, height))
        found: list[Detections] = []
        for start in range(0, len(windows), self.at_once):
            some = windows[start : start + self.at_once]
            found += detect([image[top:bottom, left:right] for left, top, right, bottom in some])
        return merge_tiles(found, windows, (height, width), self.iou_threshold, self.limit)


def tile_windows(height: int, width: int, size: int, overlap: float = OVERLAP) -> list[Window]:
    """Tiles of equal size that cover an image, row by row.

    Args:
        height: of the image, pixels.
        width: of the image, pixels.
        size: of a tile's side, pixels; where the image is smaller, the tile is too.
        overlap: share of a tile's side that neighbours have in common at least, in [0, 1).

    Example:
        >>> tile_windows(100, 180, 100, overlap=0.2)
        [(0, 0, 100, 100), (80, 0, 180, 100)]
    """
    (rows, tile_height), (columns, tile_width) = (
        (_starts(length, size, overlap), min(size, length)) for length in (height, width)
    )
    return [(x, y, x + tile_width, y + tile_height) for y in rows for x in columns]


def _starts(length: int, size: int, overlap: float) -> list[int]:
    if length <= size:
        return [0]
    stride = max(1, int(size * (1 - overlap)))
    count = -(-(length - size) // stride) + 1
    return [round(index * (length - size) / (count - 1)) for index in range(count)]


def merge_tiles(
    found: list[Detections],
    windows: list[Window],
    image_size: tuple[int, int],
    iou_threshold: float,
    limit: int | None = None,
) -> Detections:
    """The detections of an image from those of its tiles.

    Per class: NMS among whole objects. A box that its tile has cut is dropped if it is part of a
    whole object, joined with the part that a neighbouring tile has of the same object, or kept.

    Args:
        found: detections of each tile, in pixels of the tile.
        windows: the tiles; one may be the whole image.
        image_size: (height, width) of the image, pixels.
        iou_threshold: of NMS.
        limit: number of detections that are returned at most; None for no limit.

    Returns:
        Detections in pixels of the image, in descending order of score.
    """
    frames = np.repeat(np.array(windows, np.float32), [len(one) for one in found], axis=0)
    boxes = torch.cat([one.boxes for one in found]).numpy() + np.tile(frames[:, :2], 2)
    scores = torch.cat([one.scores for one in found])
    labels = torch.cat([one.labels for one in found])
    is_cut = _cut_sides(boxes, frames, image_size).any(axis=1)

    whole = np.flatnonzero(~is_cut)
    kept = class_wise_nms(
        torch.from_numpy(boxes[whole]), scores[whole], labels[whole], iou_threshold
    )
    rows = whole[kept.numpy()].tolist()
    classes = labels.numpy()
    for label in np.unique(classes[is_cut]):
        of_class = classes == label
        own = [row for row in rows if of_class[row]]
        cut = np.flatnonzero(is_cut & of_class)
        best_first = cut[np.argsort(-scores.numpy()[cut], kind="stable")]
        rows += _join_parts(boxes, frames, own, best_first.tolist(), iou_threshold)

    merged, index = torch.from_numpy(boxes[rows]), torch.tensor(rows, dtype=torch.int64)
    # Once more, since joined boxes are new ones
    keep = class_wise_nms(merged, scores[index], labels[index], iou_threshold)[:limit]
    index = index[keep]
    return Detections(merged[keep], scores[index], labels[index], found[0].categories)


def _cut_sides(boxes: _Boxes, frames: _Boxes, image_size: tuple[int, int]) -> _Mask:
    """[N, 4]: whether a box reaches a border of its tile that is no border of the image."""
    height, width = image_size
    sides = frames[:, 2:] - frames[:, :2]
    is_inner = frames != np.array([0, 0, width, height], np.float32)
    is_close = np.abs(boxes - frames) <= _BORDER_SHARE * np.tile(sides, 2)
    is_cut: _Mask = is_close & is_inner
    return is_cut


def _join_parts(
    boxes: _Boxes, frames: _Boxes, whole: list[int], cut: list[int], iou_threshold: float
) -> list[int]:
    """Rows of cut boxes that stay; joined ones are enlarged in place, with their frames.

    Args:
        boxes: [N, 4] of all classes, pixels of the image.
        frames: [N, 4] their tiles.
        whole: rows of the boxes of this class that are not cut.
        cut: rows of those that are, best first.
        iou_threshold: of NMS.
    """
    others, first_cut = np.array(whole, np.int64), len(whole)
    for row in cut:
        iou = box_iou(boxes[row][None], boxes[others])[0]
        near = np.flatnonzero(iou > 0)
        if not len(near):
            others = np.append(others, row)
            continue
        close = others[near]
        same = _same_part(boxes[row], frames[row], boxes[close], frames[close])
        places = near[(same >= _SAME_PART) | (iou[near] > iou_threshold)]
        if (places < first_cut).any():
            continue
        if not len(places):
            others = np.append(others, row)
            continue
        # The part may be the link between several that were apart; the best lends its score
        group = np.append(others[places], row)
        for values in (boxes, frames):
            low, high = values[group, :2].min(axis=0), values[group, 2:].max(axis=0)
            values[group[0]] = np.concatenate([low, high])
        others = np.delete(others, places[1:])
    return [int(row) for row in others[first_cut:]]


def _same_part(box: _Boxes, frame: _Boxes, others: _Boxes, frames: _Boxes) -> NDArray[Any]:
    """[M]: IoU of a box [4] with others [M, 4], each pair within the strip that its tiles share."""
    strips = np.concatenate(
        [np.maximum(frame[:2], frames[:, :2]), np.minimum(frame[2:], frames[:, 2:])], axis=1
    )
    own, theirs = _clipped(box[None], strips), _clipped(others, strips)
    shared = box_area(_clipped(own, theirs))
    union = box_area(own) + box_area(theirs) - shared
    iou: NDArray[Any] = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    iou[(frames == frame).all(axis=1)] = 0  # the tile's own NMS has decided
    return iou


def _clipped(boxes: _Boxes, strips: _Boxes) -> _Boxes:
    """Boxes [N, 4] or [1, 4] within strips [N, 4]; without area where they are outside."""
    clipped: _Boxes = np.maximum(boxes, strips)
    np.minimum(boxes[:, 2:], strips[:, 2:], out=clipped[:, 2:])
    np.maximum(clipped[:, 2:], clipped[:, :2], out=clipped[:, 2:])
    return clipped
