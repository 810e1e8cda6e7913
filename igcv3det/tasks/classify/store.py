"""Small images in memory: a whole split as one tensor of bytes, decoded once.

CIFAR takes 180 MB. The tensor stays on the training device and the loader only gathers rows, an
idea of Keller Jordan's CIFAR-10 "airbench" loader.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from igcv3det.datasets.image_cache import decoded_images
from igcv3det.io.images import Image
from igcv3det.tasks.classify.sources import DataError, Split


class ImageStore(NamedTuple):
    """The labelled images of one split, in memory.

    Attributes:
        images: [N, S, S, 3] uint8 RGB.
        labels: [N] int64.
        names: names of the classes.
    """

    images: Tensor
    labels: Tensor
    names: tuple[str, ...]

    def only(self, chosen: Sequence[int]) -> ImageStore:
        """The images at these indices; if these are all images, nothing is copied."""
        if len(chosen) == len(self.labels):
            return self
        rows = torch.tensor(chosen)
        return self._replace(images=self.images[rows], labels=self.labels[rows])


def load_store(split: Split, side: int, cache: Path | None) -> ImageStore:
    """Decodes a split, or reads it from the cache of an earlier run.

    Args:
        split: images and labels.
        side: side of the square that each image is resized and cropped to, pixels.
        cache: folder for the decoded images; None for no cache.

    Raises:
        ImageReadError: an image cannot be read; the message names it.
    """

    def squares() -> Iterator[Image]:
        return (square(image, side) for image in split.read_all())

    name = f"{split.root.stem}-{split.name}"
    decoded = decoded_images(squares, len(split), side, cache, name, split.fingerprint)
    return ImageStore(
        torch.from_numpy(np.require(decoded.pixels, requirements="W")),  # copies a memory map
        torch.tensor(split.labels, dtype=torch.int64),
        split.names,
    )


def torchvision_store(
    name: Literal["cifar10", "cifar100"], root: Path, *, train: bool, download: bool = False
) -> ImageStore:
    """CIFAR in torchvision's files, whose checksums torchvision verifies.

    Raises:
        DataError: the files are missing or damaged, and ``download`` is false.
    """
    from torchvision.datasets import CIFAR10, CIFAR100  # the import takes as long as that of torch

    try:
        data = (CIFAR10 if name == "cifar10" else CIFAR100)(str(root), train, download=download)
    except RuntimeError as error:
        raise DataError(
            f"{root}: {name} is missing or incomplete ({error}); pass --data.download true to "
            "download it"
        ) from error
    return ImageStore(
        torch.from_numpy(np.ascontiguousarray(data.data)),
        torch.tensor(data.targets, dtype=torch.int64),
        tuple(data.classes),
    )


def square(image: Image, side: int) -> Image:
    """Resizes the shorter side of an image [H, W, 3] to ``side`` and crops its centre.

    Returns:
        [side, side, 3]; the image itself if it has that size.
    """
    height, width = image.shape[:2]
    if (height, width) == (side, side):
        return image
    scale = side / min(height, width)
    size = max(side, round(width * scale)), max(side, round(height * scale))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    resized = np.asarray(cv2.resize(image, size, interpolation=method), np.uint8)
    top, left = (size[1] - side) // 2, (size[0] - side) // 2
    return resized[top : top + side, left : left + side]
