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
from igcv3det.tasks.classify.augmentation import CropFlipSampler, random_crop
from igcv3det.tasks.classify.config import ImageAugmentConfig
from igcv3det.tasks.classify.sources import Split
from igcv3det.tasks.classify.store import ImageStore, square

EVAL_CROP = 0.875  # central crop in evaluation, share of the shorter side: 224 of 256


class ImageBatch(NamedTuple):
    """A batch as bytes; the training device normalises it.

    Attributes:
        images: [B, S, S, 3] uint8 RGB.
        labels: [B] int64.
        indices: [B] int64, positions in the data set.
        crop_flips: [B, 3] int64 for `augmentation.crop_and_flip`; None without augmentation.
    """

    images: Tensor
    labels: Tensor
    indices: NDArray[np.int64]
    crop_flips: Tensor | None


class StoredImages(Dataset[ImageBatch]):
    """A split in memory, read a batch at a time; to be collated by `identity_collate`.

    Args:
        store: images, on the training device.
        sampler: draws crops and flips; None for no augmentation.
    """

    def __init__(self, store: ImageStore, sampler: CropFlipSampler | None = None) -> None:
        self.store = store
        self.sampler = sampler

    def __len__(self) -> int:
        return len(self.store.labels)

    def __getitems__(self, keys: Sequence[Key]) -> ImageBatch:
        """The batch of these keys, all of one epoch."""
        epoch = keys[0][0]
        indices = np.array([index for _, index in keys], np.int64)
        # non_blocking: do not wait for a GPU that still computes the last step
        rows = torch.from_numpy(indices).to(self.store.images.device, non_blocking=True)
        return ImageBatch(
            self.store.images[rows],
            self.store.labels[rows],
            indices,
            None if self.sampler is None else self.sampler.sample(epoch, indices),
        )


def identity_collate(batch: ImageBatch) -> ImageBatch:
    """Returns its argument, which is a batch already."""
    return batch


Sample = tuple[Tensor, int, int]
"""Image [S, S, 3] uint8, label, index."""


class DecodedImages(Dataset[Sample]):
    """Images in files, decoded on every access.

    Args:
        split: images and labels.
        side: side of the network input, pixels.
        augment: augmentation; None takes the central crop of each image, for evaluation.
        seed: random seed of the augmentation.
    """

    def __init__(
        self, split: Split, side: int, augment: ImageAugmentConfig | None = None, seed: int = 0
    ) -> None:
        self.split, self.side, self.augment, self.seed = split, side, augment, seed

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, key: Key) -> Sample:
        """One image; its augmentation depends on seed, epoch and index.

        Raises:
            ImageReadError: it cannot be read; the message names it.
        """
        image = self.split.read(key[1])
        if self.augment is None:
            resized = square(image, round(self.side / EVAL_CROP))
            edge = (len(resized) - self.side) // 2
            pixels = resized[edge : edge + self.side, edge : edge + self.side]
        else:
            rng = np.random.default_rng((self.seed, *key, 1))
            pixels = random_crop(image, self.side, self.augment, rng)
        return torch.from_numpy(np.ascontiguousarray(pixels)), self.split.labels[key[1]], key[1]


def stack(samples: Sequence[Sample]) -> ImageBatch:
    """Collates single samples into a batch."""
    images, labels, indices = zip(*samples, strict=True)
    return ImageBatch(torch.stack(images), torch.tensor(labels), np.array(indices, np.int64), None)
