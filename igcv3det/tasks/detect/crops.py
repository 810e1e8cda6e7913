"""Which part of an image a training sample shows: SSD's expand and IoU crop.

A view is a rectangle xyxy in pixels of the image. It may reach beyond the image: expanding is
looking from farther away, so no enlarged canvas is ever filled.
"""

from __future__ import annotations

from typing import cast

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from igcv3det.detection.iou import box_iou
from igcv3det.preprocess import Preprocess, Resized

Floats = NDArray[np.float64]

MIN_IOUS = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, None)
"""Least IoU of the crop with an object it keeps, drawn anew for each sample; None shows all."""
ASPECT_RATIOS = (0.5, 2.0)
"""Bounds of a crop's width to height."""
TRIALS = 40
"""Rectangles tried for one drawn IoU."""
ROUNDS = 10
"""IoUs drawn before the whole is shown; one in seven of them shows it anyway."""
EXPAND_PROBABILITY = 0.5
"""Share of the samples that preset ``ssd`` expands."""


def random_expansion(rng: Generator, height: int, width: int, max_scale: float) -> Floats:
    """A view up to ``max_scale`` times as wide and high, with the image somewhere inside.

    Args:
        rng: source of the draw.
        height: of the image, pixels.
        width: of the image, pixels.
        max_scale: >= 1.

    Returns:
        [4] xyxy, pixels of the image.

    Source: Liu et al., SSD, arXiv:1512.02325, section 3.6; half of the samples as in
    torchvision's ``RandomZoomOut``.
    """
    if rng.random() >= EXPAND_PROBABILITY:
        return np.array([0.0, 0.0, width, height])
    scale = rng.uniform(1.0, max_scale)
    left, top = rng.random(2) * (scale - 1.0)
    return np.array([-left * width, -top * height, (scale - left) * width, (scale - top) * height])


def random_iou_crop(rng: Generator, canvas: Floats, boxes: Floats, min_scale: float) -> Floats:
    """A rectangle inside ``canvas`` that contains the centre of an object and overlaps it enough.

    Args:
        rng: source of the draw.
        canvas: [4] xyxy.
        boxes: [N, 4] xyxy, objects in the same frame; N >= 1.
        min_scale: least width and height as a share of the canvas.

    Returns:
        [4] xyxy, the canvas itself if so drawn or if no rectangle was found.

    Source: Liu et al., SSD, arXiv:1512.02325, section 2.2, "Data augmentation"; shares, trials and
    the option of no condition as in torchvision's ``RandomIoUCrop``.
    """
    for _ in range(ROUNDS):
        min_iou = MIN_IOUS[rng.integers(len(MIN_IOUS))]
        if min_iou is None:
            return canvas
        crops = _random_rectangles(rng, canvas, min_scale)
        ious = box_iou(crops, boxes)
        ious = np.where(has_centre(crops[:, None], boxes), ious, -1.0)
        crops = crops[ious.max(axis=1) >= min_iou]
        if len(crops):
            return cast("Floats", crops[0])
    return canvas


def has_centre(rectangles: Floats, boxes: Floats) -> NDArray[np.bool_]:
    """Whether the centre of a box is strictly inside a rectangle; both [..., 4] xyxy, broadcast."""
    centres = (boxes[..., :2] + boxes[..., 2:]) / 2
    inside = (rectangles[..., :2] < centres) & (centres < rectangles[..., 2:])
    return cast("NDArray[np.bool_]", inside.all(axis=-1))


def whole_pixels(view: Floats, height: int, width: int) -> Floats:
    """The view grown to whole pixels if it then lies within the image; as it is otherwise."""
    grown = np.concatenate([np.floor(view[:2]), np.ceil(view[2:])])
    return grown if _is_within(grown, height, width) else view


def show(image: NDArray[np.uint8], view: Floats, preprocess: Preprocess) -> Resized:
    """Stretches what is in view to the network input; beyond the image is the mean colour.

    Args:
        image: [H, W, 3] RGB.
        view: [4] xyxy, pixels of the image; in whole pixels if within it.
        preprocess: stretches; a view beyond the image is sampled on the same grid.

    Returns:
        [S, S, 3] in 0..255, as `Preprocess.resize`.
    """
    if _is_within(view, *image.shape[:2]):
        left, top, right, bottom = view.astype(int)
        return preprocess.resize(image[top:bottom, left:right])
    size = preprocess.image_size
    scales = (view[2:] - view[:2]) / size
    tensorflow = preprocess.config.resize == "tensorflow"
    # source = target * scale + offset; OpenCV's and PyTorch's pixels have their centres at halves
    offsets = view[:2] if tensorflow else view[:2] + scales / 2 - 0.5
    shown = cv2.warpAffine(
        image,
        np.array([[scales[0], 0, offsets[0]], [0, scales[1], offsets[1]]]),
        (size, size),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=preprocess.config.mean,
    )
    return shown.astype(np.float32) if tensorflow else cast("NDArray[np.uint8]", shown)


def _is_within(view: Floats, height: int, width: int) -> bool:
    return bool((view[:2] >= 0).all() and view[2] <= width and view[3] <= height)


def _random_rectangles(rng: Generator, canvas: Floats, min_scale: float) -> Floats:
    """Up to TRIALS rectangles [T, 4] inside the canvas, of an allowed shape."""
    sides = canvas[2:] - canvas[:2]
    draws = rng.random((TRIALS, 4))
    sizes = sides * (min_scale + (1.0 - min_scale) * draws[:, :2])
    corners = canvas[:2] + (sides - sizes) * draws[:, 2:]
    ratios = sizes[:, 0] / sizes[:, 1]
    allowed = (ratios >= ASPECT_RATIOS[0]) & (ratios <= ASPECT_RATIOS[1])
    return np.concatenate([corners, corners + sizes], axis=1)[allowed]
