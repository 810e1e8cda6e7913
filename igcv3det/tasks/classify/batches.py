"""Batches of labelled images, from memory or from files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from igcv3det.engine.sampler import Key
from igcv3det.tasks.classify.augmentation import EpochMoves, random_crop
from igcv3det.tasks.classify.config import ImageAugmentConfig
from igcv3det.tasks.classify.sources import Split
from igcv3det.tasks.classify.store import ImageStore, square

EVAL_SHARE = 0.875  # of the shorter side that is looked at when measuring: 224 of 256


class ImageBatch(NamedTuple):
    """Images as bytes: they are normalised where they are trained on.

    Attributes:
        images: [B, S, S, 3] uint8 RGB.
        labels: [B] int64.
        indices: [B] int64, which images of the data set these are.
        moves: [B, 3] int64 of `augmentation.moved`, still to be made; None for none.
    """

    images: Tensor
    labels: Tensor
    indices: NDArray[np.int64]
    moves: Tensor | None


class StoredImages(Dataset[ImageBatch]):
    """A split in memory; it hands out whole batches, to be collated by `identity_collate`.

    Args:
        store: the images, on the device that trains.
        moves: random changes; None for none.
    """

    def __init__(self, store: ImageStore, moves: EpochMoves | None = None) -> None:
        self.store = store
        self.moves = moves

    def __len__(self) -> int:
        return len(self.store.labels)

    def __getitems__(self, keys: Sequence[Key]) -> ImageBatch:
        """The batch of these images, which are all of one epoch."""
        epoch = keys[0][0]
        indices = np.array([index for _, index in keys], np.int64)
        # a GPU that is still busy with the last step is not waited for
        rows = torch.from_numpy(indices).to(self.store.images.device, non_blocking=True)
        return ImageBatch(
            self.store.images[rows],
            self.store.labels[rows],
            indices,
            None if self.moves is None else self.moves.of(epoch, indices),
        )


def identity_collate(batch: ImageBatch) -> ImageBatch:
    """Collates what is a batch already."""
    return batch


Sample = tuple[Tensor, int, int]
"""Image [S, S, 3] uint8, label, index."""


class DecodedImages(Dataset[Sample]):
    """Images in files, decoded each time that they are wanted.

    Args:
        split: the images.
        side: of the square that the network takes, pixels.
        augment: random changes; None measures on the middle of each image.
        seed: of the changes.
    """

    def __init__(
        self, split: Split, side: int, augment: ImageAugmentConfig | None = None, seed: int = 0
    ) -> None:
        self.split, self.side, self.augment, self.seed = split, side, augment, seed

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, key: Key) -> Sample:
        """One image; its changes depend on seed, epoch and index.

        Raises:
            ImageReadError: it cannot be read; the message names it.
        """
        image = self.split.read(key[1])
        if self.augment is None:
            whole = square(image, round(self.side / EVAL_SHARE))
            edge = (len(whole) - self.side) // 2
            pixels = whole[edge : edge + self.side, edge : edge + self.side]
        else:
            rng = np.random.default_rng((self.seed, *key, 1))
            pixels = random_crop(image, self.side, self.augment, rng)
        return torch.from_numpy(np.ascontiguousarray(pixels)), self.split.labels[key[1]], key[1]


def stack(samples: Sequence[Sample]) -> ImageBatch:
    """Collates single images."""
    images, labels, indices = zip(*samples, strict=True)
    return ImageBatch(torch.stack(images), torch.tensor(labels), np.array(indices, np.int64), None)
