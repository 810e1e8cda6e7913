"""SSD's random expansion and IoU crop.

Both give a crop: a rectangle xyxy in pixels of the image. Expansion gives one that extends beyond
the image, so that no enlarged canvas is ever filled.
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
"""Minimum IoU of a crop with an object, drawn for each sample; None keeps the whole."""
ASPECT_RATIOS = (0.5, 2.0)
"""Smallest and largest ratio of a crop's width to its height."""
TRIALS = 40
"""Crops tried for one minimum IoU."""
ROUNDS = 10
"""Minimum IoUs tried before the whole is kept; one in seven keeps it anyway."""
EXPAND_PROBABILITY = 0.5
"""Share of the samples that are expanded."""


def random_expand(rng: Generator, height: int, width: int, max_scale: float) -> Floats:
    """A crop up to ``max_scale`` times as wide and high as the image, which lies inside it.

    Args:
        rng: random generator.
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
    """A crop inside ``canvas`` that contains the centre of an object and overlaps it enough.

    Args:
        rng: random generator.
        canvas: [4] xyxy.
        boxes: [N, 4] xyxy, objects in the same frame; N >= 1.
        min_scale: minimum width and height as a share of the canvas.

    Returns:
        [4] xyxy; the canvas itself if so drawn, or if no crop was found.

    Source: Liu et al., SSD, arXiv:1512.02325, section 2.2, "Data augmentation"; shares, trials and
    the option of no condition as in torchvision's ``RandomIoUCrop``.
    """
    for _ in range(ROUNDS):
        min_iou = MIN_IOUS[rng.integers(len(MIN_IOUS))]
        if min_iou is None:
            return canvas
        crops = _random_crops(rng, canvas, min_scale)
        fits = contains_center(crops[:, None], boxes)
        fits &= box_iou(crops, boxes) >= min_iou
        crops = crops[fits.any(axis=1)]
        if len(crops):
            return cast("Floats", crops[0])
    return canvas


def contains_center(crops: Floats, boxes: Floats) -> NDArray[np.bool_]:
    """Whether the centre of a box is strictly inside a crop; both [..., 4] xyxy, broadcast."""
    centers = (boxes[..., :2] + boxes[..., 2:]) / 2
    x, y = centers[..., 0], centers[..., 1]  # a column at a time, as in `detection.iou`
    in_width: NDArray[np.bool_] = (crops[..., 0] < x) & (x < crops[..., 2])
    in_height: NDArray[np.bool_] = (crops[..., 1] < y) & (y < crops[..., 3])
    return in_width & in_height


def whole_pixels(crop: Floats, height: int, width: int) -> Floats:
    """The crop grown to whole pixels if it then lies within the image; unchanged otherwise."""
    grown = np.concatenate([np.floor(crop[:2]), np.ceil(crop[2:])])
    return grown if _is_within(grown, height, width) else crop


def resize_crop(image: NDArray[np.uint8], crop: Floats, preprocess: Preprocess) -> Resized:
    """Resizes a crop to the network input; beyond the image it has the mean colour.

    Args:
        image: [H, W, 3] RGB.
        crop: [4] xyxy, pixels of the image; in whole pixels if within it.
        preprocess: resizes; a crop beyond the image is sampled on the same grid.

    Returns:
        [S, S, 3] in 0..255, as `Preprocess.resize`.
    """
    if _is_within(crop, *image.shape[:2]):
        left, top, right, bottom = crop.astype(int)
        return preprocess.resize(image[top:bottom, left:right])
    size = preprocess.image_size
    scales = (crop[2:] - crop[:2]) / size
    tensorflow = preprocess.config.resize == "tensorflow"
    # source = target * scale + offset; OpenCV's and PyTorch's pixels have their centres at halves
    offsets = crop[:2] if tensorflow else crop[:2] + scales / 2 - 0.5
    resized = cv2.warpAffine(
        image,
        np.array([[scales[0], 0, offsets[0]], [0, scales[1], offsets[1]]]),
        (size, size),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=preprocess.config.mean,
    )
    return resized.astype(np.float32) if tensorflow else cast("NDArray[np.uint8]", resized)


def _is_within(crop: Floats, height: int, width: int) -> bool:
    return bool((crop[:2] >= 0).all() and crop[2] <= width and crop[3] <= height)


def _random_crops(rng: Generator, canvas: Floats, min_scale: float) -> Floats:
    """Up to TRIALS crops [T, 4] inside the canvas, of an allowed shape."""
    sides = canvas[2:] - canvas[:2]
    draws = rng.random((TRIALS, 4))
    sizes = sides * (min_scale + (1.0 - min_scale) * draws[:, :2])
    corners = canvas[:2] + (sides - sizes) * draws[:, 2:]
    ratios = sizes[:, 0] / sizes[:, 1]
    allowed = (ratios >= ASPECT_RATIOS[0]) & (ratios <= ASPECT_RATIOS[1])
    return np.concatenate([corners, corners + sizes], axis=1)[allowed]
