"""Random changes of training images, as functions of seed, epoch and image alone.

Small images are shifted and flipped as whole batches, by one gather on the device that trains;
the few random numbers are drawn on the CPU, so that every device sees the same images. Large
ones are cropped one by one, where they are decoded.
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

CROP_TRIES = 10  # torchvision's RandomResizedCrop


class EpochMoves:
    """What happens to each small image in an epoch.

    Args:
        count: images.
        config: what may happen.
        seed: of everything random.
    """

    def __init__(self, count: int, config: ImageAugmentConfig, seed: int) -> None:
        self.count, self.config, self.seed = count, config, seed
        self._epoch = -1
        self._moves: NDArray[np.int64] = np.zeros((0, 3), np.int64)

    def of(self, epoch: int, indices: NDArray[np.int64]) -> Tensor:
        """[B, 3] int64 for these images: crop's top and left in the padded frame, 1 to flip."""
        if epoch != self._epoch:
            rng = np.random.default_rng((self.seed, epoch, 1))  # (seed, epoch) orders the images
            high = 2 * self.config.pad + 1
            self._moves = rng.integers(0, (high, high, 2), (self.count, 3))
            self._moves[:, 2] *= self.config.flip
            self._epoch = epoch
        return torch.from_numpy(self._moves[indices])


def moved(images: Tensor, moves: Tensor, pad: int) -> Tensor:
    """Pads, crops to the old size and flips a batch, each image its own way.

    Args:
        images: [B, H, W, 3].
        moves: [B, 3] int64, see `EpochMoves.of`.
        pad: black pixels on every side.

    Returns:
        [B, H, W, 3].

    Example:
        >>> image = torch.tensor([1, 2, 3]).reshape(1, 1, 3, 1)
        >>> moved(image, torch.tensor([[1, 2, 0]]), 1).flatten().tolist()
        [2, 3, 0]
        >>> moved(image, torch.tensor([[1, 2, 1]]), 1).flatten().tolist()
        [0, 3, 2]
    """
    batch, height, width, _ = images.shape
    device = images.device
    padded = F.pad(images, (0, 0, pad, pad, pad, pad))
    top, left, flip = moves.to(device, non_blocking=True).unbind(1)
    rows = top[:, None] + torch.arange(height, device=device)
    columns = torch.arange(width, device=device)
    columns = left[:, None] + torch.where(flip[:, None] == 1, width - 1 - columns, columns)
    image = torch.arange(batch, device=device)[:, None, None]
    return padded[image, rows[:, :, None], columns[:, None, :]]


def random_crop(
    image: Image, side: int, config: ImageAugmentConfig, rng: np.random.Generator
) -> Image:
    """A random part of an image, stretched to a square and perhaps flipped.

    Args:
        image: [H, W, 3].
        side: of the result, pixels.
        config: sizes and shapes of the part.
        rng: source of everything random.

    Source: torchvision's RandomResizedCrop, which follows Szegedy et al., arXiv 1409.4842.
    """
    top, left, height, width = crop_box(image.shape[0], image.shape[1], config, rng)
    part = image[top : top + height, left : left + width]
    method = cv2.INTER_AREA if min(height, width) > side else cv2.INTER_LINEAR
    resized = np.asarray(cv2.resize(part, (side, side), interpolation=method), np.uint8)
    if config.flip and rng.random() < 0.5:
        resized = resized[:, ::-1]
    return np.ascontiguousarray(resized)


def crop_box(
    height: int, width: int, config: ImageAugmentConfig, rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """(top, left, height, width) of a random part, pixels; the middle where none fits."""
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
