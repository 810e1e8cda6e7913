"""Images and masks as samples and batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, cast

import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from igcv3det.engine.sampler import Key
from igcv3det.io.images import Image
from igcv3det.tasks.segment.masks import ClassLabels, Mask
from igcv3det.tasks.segment.scan import read_pair
from igcv3det.tasks.segment.sources import MaskedImage


class MaskTransform(Protocol):
    """From an image and its classes to a network input and its classes."""

    def __call__(self, image: Image, mask: Mask, key: Key) -> tuple[Tensor, Mask]:
        """The network input of the sample ``key`` (epoch, index)."""


class MaskSample(NamedTuple):
    """One image.

    Attributes:
        image: [3, H, W] float32.
        mask: [H', W'] uint8 classes; in training H' = H and W' = W.
        position: in its split.
    """

    image: Tensor
    mask: Tensor
    position: int


class MaskBatch(NamedTuple):
    """A batch.

    Attributes:
        images: [B, 3, H, W] float32.
        masks: B masks [H', W'] uint8.
        positions: B positions in the split.
    """

    images: Tensor
    masks: list[Tensor]
    positions: list[int]


class MaskedImages(Dataset[MaskSample]):
    """Network inputs and classes of a split.

    Args:
        samples: images and masks.
        classes: which labels are classes.
        transform: `MaskTrainTransform` or `MaskEvalTransform`.
    """

    def __init__(
        self, samples: Sequence[MaskedImage], classes: ClassLabels, transform: MaskTransform
    ) -> None:
        self.samples, self.classes, self.transform = samples, classes, transform

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: int | Key) -> MaskSample:
        """One sample; the epoch of a key (epoch, index), else 0, decides on random changes.

        Raises:
            ImageReadError, MaskError: one of the files cannot be used.
        """
        epoch, index = key if isinstance(key, tuple) else (0, key)
        sample = self.samples[index]
        image, labels = read_pair(sample)
        mask = self.classes.to_classes(labels, sample.mask)
        inputs, mask = self.transform(image, mask, (epoch, index))
        return MaskSample(inputs, torch.from_numpy(mask), index)


def stack_samples(samples: Sequence[MaskSample]) -> MaskBatch:
    """Collates samples into a batch."""
    # stacks straight into shared memory when it runs in a worker
    images = cast("Tensor", default_collate([sample.image for sample in samples]))
    return MaskBatch(images, [own.mask for own in samples], [own.position for own in samples])


def identity(batch: MaskBatch) -> MaskBatch:
    """Returns its argument: a batch crosses from a worker as it is."""
    return batch
