"""Small images: a whole split as one tensor of bytes in memory, decoded once.

CIFAR is 180 MB that way. It stays in memory, on the GPU where there is one, and the loader only
gathers rows (the idea of Keller Jordan's CIFAR-10 "airbench" loader).
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
        names: of the classes.
    """

    images: Tensor
    labels: Tensor
    names: tuple[str, ...]

    def only(self, chosen: Sequence[int]) -> ImageStore:
        """Some of the images; all of them are not copied."""
        if len(chosen) == len(self.labels):
            return self
        rows = torch.tensor(chosen)
        return self._replace(images=self.images[rows], labels=self.labels[rows])


def load_store(split: Split, side: int, cache: Path | None) -> ImageStore:
    """Decodes a split, or reads what an earlier run has decoded.

    Args:
        split: the images.
        side: of the square that each is brought to, pixels.
        cache: folder of the decoded files; None keeps none.

    Raises:
        ImageReadError: an image cannot be read; the message names it.
    """

    def squares() -> Iterator[Image]:
        return (square(image, side) for image in split.read_all())

    name = f"{split.root.stem}-{split.name}"
    decoded = decoded_images(squares, len(split), side, cache, name, split.fingerprint)
    return ImageStore(
        torch.from_numpy(np.require(decoded.pixels, requirements="W")),  # mapped ones are copied
        torch.tensor(split.labels, dtype=torch.int64),
        split.names,
    )


def torchvision_store(
    name: Literal["cifar10", "cifar100"], root: Path, *, train: bool, download: bool = False
) -> ImageStore:
    """CIFAR as torchvision keeps it, its checksums verified by torchvision.

    Raises:
        DataError: it is not there, or damaged, and was not to be downloaded.
    """
    from torchvision.datasets import CIFAR10, CIFAR100  # takes as long as importing torch

    try:
        data = (CIFAR10 if name == "cifar10" else CIFAR100)(str(root), train, download=download)
    except RuntimeError as error:
        raise DataError(
            f"{root}: torchvision finds no whole {name} there ({error}); pass --data.download true "
            "to let it be downloaded"
        ) from error
    return ImageStore(
        torch.from_numpy(np.ascontiguousarray(data.data)),
        torch.tensor(data.targets, dtype=torch.int64),
        tuple(data.classes),
    )


def square(image: Image, side: int) -> Image:
    """The middle of an image [H, W, 3] as [side, side, 3]; one of that size is left as it is."""
    height, width = image.shape[:2]
    if (height, width) == (side, side):
        return image
    scale = side / min(height, width)
    size = max(side, round(width * scale)), max(side, round(height * scale))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    resized = np.asarray(cv2.resize(image, size, interpolation=method), np.uint8)
    top, left = (size[1] - side) // 2, (size[0] - side) // 2
    return resized[top : top + side, left : left + side]
