"""Small images, decoded once: a whole split as one tensor of bytes, kept in a cache file.

CIFAR is 180 MB that way. It stays in memory, on the GPU where there is one, and the loader has
nothing to do but to gather rows (the idea of Keller Jordan's CIFAR-10 "airbench" loader).
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import cv2
import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from igcv3det.io.images import Image
from igcv3det.tasks.classify.sources import DataError, Split

logger = logging.getLogger(__name__)

FORMAT = 1  # of the cache files; another one makes the old ones unknown


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
    if cache is None:
        return _decode(split, side)
    key = hashlib.sha256(f"{FORMAT} {split.fingerprint} {side}".encode()).hexdigest()[:16]
    file = cache / f"{split.root.stem}-{split.name}-{side}px-{key}.safetensors"
    try:
        return _read(file)
    except FileNotFoundError:
        logger.info("decoding %d images of %s once, into %s", len(split), split.root, file)
    except (SafetensorError, KeyError) as error:
        logger.warning("%s is damaged (%s): decoding anew", file, error)
    store = _decode(split, side)
    _write(file, store)
    return store


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


def _decode(split: Split, side: int) -> ImageStore:
    images = np.empty((len(split), side, side, 3), np.uint8)
    for row, image in zip(images, split.read_all(), strict=True):
        row[:] = square(image, side)
    labels = torch.tensor(split.labels, dtype=torch.int64)
    return ImageStore(torch.from_numpy(images), labels, split.names)


def _read(file: Path) -> ImageStore:
    with safe_open(file, framework="pt") as content:
        names = json.loads((content.metadata() or {})["names"])
        return ImageStore(content.get_tensor("images"), content.get_tensor("labels"), tuple(names))


def _write(file: Path, store: ImageStore) -> None:
    """Beside the target, then renamed: several runs may decode at once, and one may be killed."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f"{file.name}.{os.getpid()}.partial")
    tensors = {"images": store.images, "labels": store.labels}
    try:
        save_file(tensors, partial, {"names": json.dumps(store.names)})
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)
