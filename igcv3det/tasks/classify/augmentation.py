"""Augmentation of training images, a function of seed, epoch and image index alone.

Small images are padded, cropped and flipped a batch at a time, by one gather on the training
device; the random numbers are drawn on the CPU, so that the result does not depend on the device.
Large images are cropped one by one after decoding.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from igcv3det.io.images import Image
from igcv3det.tasks.classify.config import ImageAugmentConfig

CROP_TRIES = 10  # as in torchvision's RandomResizedCrop


class CropFlipSampler:
    """Draws the crop position and the flip of every small image, anew each epoch.

    Args:
        count: number of images.
        config: padding, and whether to flip.
        seed: random seed.
    """

    def __init__(self, count: int, config: ImageAugmentConfig, seed: int) -> None:
        self.count, self.config, self.seed = count, config, seed
        self._epoch = -1
        self._drawn: NDArray[np.int64] = np.zeros((0, 3), np.int64)

    def sample(self, epoch: int, indices: NDArray[np.int64]) -> Tensor:
        """Crop positions and flips of some images in an epoch.

        Args:
            epoch: from 0.
            indices: [B] of the images.

        Returns:
            [B, 3] int64: top and left of the crop in the padded image, and 1 for a flip.
        """
        if epoch != self._epoch:
            rng = np.random.default_rng((self.seed, epoch, 1))  # (seed, epoch): the order
            high = 2 * self.config.pad + 1
            self._drawn = rng.integers(0, (high, high, 2), (self.count, 3))
            self._drawn[:, 2] *= self.config.flip
            self._epoch = epoch
        return torch.from_numpy(self._drawn[indices])


def crop_and_flip(images: Tensor, crop_flips: Tensor, pad: int) -> Tensor:
    """Pads each image of a batch, crops it to its old size and flips some.

    Args:
        images: [B, H, W, 3].
        crop_flips: [B, 3] int64, see `CropFlipSampler.sample`.
        pad: black pixels added on every side.

    Returns:
        [B, H, W, 3].

    Example:
        >>> image = torch.tensor([1, 2, 3]).reshape(1, 1, 3, 1)
        >>> crop_and_flip(image, torch.tensor([[1, 2, 0]]), 1).flatten().tolist()
        [2, 3, 0]
        >>> crop_and_flip(image, torch.tensor([[1, 2, 1]]), 1).flatten().tolist()
        [0, 3, 2]
    """
    batch, height, width, _ = images.shape
    device = images.device
    padded = F.pad(images, (0, 0, pad, pad, pad, pad))
    top, left, flip = crop_flips.to(device, non_blocking=True).unbind(1)
    rows = top[:, None] + torch.arange(height, device=device)
    columns = torch.arange(width, device=device)
    columns = left[:, None] + torch.where(flip[:, None] == 1, width - 1 - columns, columns)
    image = torch.arange(batch, device=device)[:, None, None]
    return padded[image, rows[:, :, None], columns[:, None, :]]


def random_crop(
    image: Image, side: int, config: ImageAugmentConfig, rng: np.random.Generator
) -> Image:
    """A random crop of an image, resized to a square and flipped at random.

    Args:
        image: [H, W, 3].
        side: side of the result, pixels.
        config: range of areas and aspect ratios of the crop.
        rng: random generator.

    Source: torchvision's RandomResizedCrop, which follows Szegedy et al., arXiv 1409.4842.
    """
    top, left, height, width = crop_box(image.shape[0], image.shape[1], config, rng)
    crop = image[top : top + height, left : left + width]
    method = cv2.INTER_AREA if min(height, width) > side else cv2.INTER_LINEAR
    resized = np.asarray(cv2.resize(crop, (side, side), interpolation=method), np.uint8)
    if config.flip and rng.random() < 0.5:
        resized = resized[:, ::-1]
    return np.ascontiguousarray(resized)


def crop_box(
    height: int, width: int, config: ImageAugmentConfig, rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """(top, left, height, width) of a random crop, pixels; a central one where none fits."""
    low, high = config.crop_ratio
    for _ in range(CROP_TRIES):
        area = height * width * rng.uniform(*config.crop_scale)
        ratio = math.exp(rng.uniform(math.log(low), math.log(high)))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            top, left = rng.integers(0, height - h + 1), rng.integers(0, width - w + 1)
            return int(top), int(left), h, w
    w = min(width, round(height * high))
    h = min(height, round(width / low))
    return (height - h) // 2, (width - w) // 2, h, w
