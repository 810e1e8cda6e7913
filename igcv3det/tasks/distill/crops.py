"""Random crops of square images: position, size, aspect, flip, sharpness and colour of a batch.

Everything is computed on the device of the images, so that a GPU does not wait for a loader.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from igcv3det.tasks.distill.config import CropConfig

_GREY = (0.299, 0.587, 0.114)  # Rec. 601
_LAPLACIAN, _ITS_SQUARE = 0.15, 0.05
"""Shares of the filter at strength 1, fitted to mean power spectra at 300 pixels: 360 images stored
at 256 to 384 pixels have 0.2 of the power of COCO's own files above 110 cycles an image."""


class Crops(NamedTuple):
    """Crops of a batch and where they were taken.

    Attributes:
        images: [B, 3, S, S] float32 RGB, 0..255.
        regions: [B, 4] float32 xyxy, pixels of the square image; x0 > x1 in a mirrored crop. On
            the CPU: copying them back would stall a GPU.
    """

    images: Tensor
    regions: Tensor


def random_crops(pixels: Tensor, config: CropConfig, entropy: tuple[int, ...]) -> Crops:
    """One random crop of each image.

    Args:
        pixels: [B, P, P, 3] uint8 RGB.
        config: size of the crops, and ranges.
        entropy: seeds the random numbers, which are the same on every device.
    """
    random = np.random.default_rng(entropy)
    batch, side = pixels.shape[0], pixels.shape[1]
    regions = torch.from_numpy(_regions(batch, side, config, random))
    images = pixels.permute(0, 3, 1, 2).float()
    on_device = regions.to(pixels.device, non_blocking=True)
    # a stretched crop of the same size is cut too, or its boxes would lie beside the objects
    is_whole = config.min_scale == config.max_scale == config.max_aspect == 1
    if config.size == side and is_whole:
        images = _mirrored(images, on_device)
    else:
        images = _resampled(images, on_device, config.size)
    if config.sharpen:
        drawn = torch.from_numpy(random.uniform(0, config.sharpen, batch).astype(np.float32))
        images = sharpened(images, drawn.to(pixels.device, non_blocking=True))
    return Crops(_coloured(images, config.colour, random), regions)


def crop_regions(batch: int, side: int, config: CropConfig, entropy: tuple[int, ...]) -> Tensor:
    """The regions of `random_crops` of images of ``side`` pixels, without the images."""
    return torch.from_numpy(_regions(batch, side, config, np.random.default_rng(entropy)))


def boxes_in_crops(boxes: Tensor, region: Tensor, size: int) -> Tensor:
    """Boxes of a square image in pixels of a crop of it; they may lie outside the crop.

    Args:
        boxes: [N, 4] xyxy, pixels of the square image.
        region: [4] as in `Crops`, or [N, 4], one for each box.
        size: S, side of the crop, pixels.
    """
    x0, y0, x1, y1 = region[..., None].unbind(dim=-2)
    xs = (boxes[:, 0::2] - x0) * size / (x1 - x0)
    ys = (boxes[:, 1::2] - y0) * size / (y1 - y0)
    left, right = xs.min(dim=1).values, xs.max(dim=1).values  # a mirrored crop swaps them
    return torch.stack([left, ys[:, 0], right, ys[:, 1]], dim=1)


def _regions(
    batch: int, side: int, config: CropConfig, random: np.random.Generator
) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    scales = np.exp(random.uniform(np.log(config.min_scale), np.log(config.max_scale), batch))
    stretch = np.exp(0.5 * random.uniform(-1, 1, batch) * np.log(config.max_aspect))
    widths = np.minimum(config.size / (scales * stretch), side)
    heights = np.minimum(config.size * stretch / scales, side)
    x0 = random.uniform(0, 1, batch) * (side - widths)
    y0 = random.uniform(0, 1, batch) * (side - heights)
    regions = np.stack([x0, y0, x0 + widths, y0 + heights], axis=1)
    is_mirrored = random.random(batch) < config.flip
    regions[is_mirrored] = regions[is_mirrored][:, [2, 1, 0, 3]]
    return regions.astype(np.float32)


def _mirrored(images: Tensor, regions: Tensor) -> Tensor:
    is_mirrored = (regions[:, 0] > regions[:, 2]).reshape(-1, 1, 1, 1)
    return torch.where(is_mirrored, images.flip(3), images)


def _resampled(images: Tensor, regions: Tensor, size: int) -> Tensor:
    """Bilinear samples of each region; pixel centres are at halves."""
    side = images.shape[-1]
    x0, y0, x1, y1 = (regions / side).unbind(dim=1)
    zero = torch.zeros_like(x0)
    rows_x = torch.stack([x1 - x0, zero, x0 + x1 - 1], dim=1)
    rows_y = torch.stack([zero, y1 - y0, y0 + y1 - 1], dim=1)
    affine = torch.stack([rows_x, rows_y], dim=1)  # [B, 2, 3], -1..1 to -1..1
    grid = F.affine_grid(affine, [len(images), 3, size, size], align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def sharpened(images: Tensor, strengths: Tensor) -> Tensor:
    """Adds to each image its Laplacian and the Laplacian of that, times its strength.

    Args:
        images: [B, 3, H, W], 0..255.
        strengths: [B], >= 0, on the same device; see `CropConfig.sharpen`.
    """
    laplacian = _laplacian(images)
    added = _LAPLACIAN * laplacian + _ITS_SQUARE * _laplacian(laplacian)
    return (images + strengths.reshape(-1, 1, 1, 1) * added).clamp_(0, 255)


def _laplacian(images: Tensor) -> Tensor:
    """Four times each pixel less its neighbours; the border is repeated."""
    padded = F.pad(images, (1, 1, 1, 1), mode="replicate")
    across = padded[..., 1:-1, :-2] + padded[..., 1:-1, 2:]
    return 4 * images - across - padded[..., :-2, 1:-1] - padded[..., 2:, 1:-1]


def _coloured(images: Tensor, strength: float, random: np.random.Generator) -> Tensor:
    """Brightness, contrast and saturation, each changed by a factor in 1 +- strength."""
    if strength == 0:
        return images
    factors = random.uniform(1 - strength, 1 + strength, (3, len(images), 1, 1, 1))
    brightness, contrast, saturation = torch.from_numpy(factors.astype(np.float32)).to(
        images.device, non_blocking=True
    )
    images = images * brightness
    red, green, blue = (images[:, i : i + 1] * share for i, share in enumerate(_GREY))
    grey = red + green + blue
    mean = grey.mean(dim=(2, 3), keepdim=True)
    # contrast * (saturation * image + (1 - saturation) * grey - mean) + mean
    images = images * (contrast * saturation)
    images += contrast * ((1 - saturation) * grey) + (1 - contrast) * mean
    return images.clamp_(0, 255)
