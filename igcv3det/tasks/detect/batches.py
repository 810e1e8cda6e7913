"""Samples to batches, and how batches travel from the worker processes.

Every tensor that crosses from a worker costs a file descriptor and a system call or two. A batch
crosses as six tensors and is split into `Target`s, which are views, on the other side.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor
from torch.utils.data import default_collate

from igcv3det.structures import Target

Sample = tuple[Tensor, Target]
"""Image [3, S, S] float32 and its ground truth."""
Batch = tuple[Tensor, list[Target]]
"""Images [B, 3, S, S] float32 and B targets."""


class PackedBatch(NamedTuple):
    """A batch in six tensors.

    Attributes:
        images: [B, 3, S, S] float32.
        boxes: [sum of N, 4] float32, the objects of all images one after another.
        labels: [sum of N] int64.
        scores: [sum of N] float32; 1 where the boxes of an image have no scores.
        crowds: [sum of M, 4] float32.
        numbers: [B, 6] int64: objects, crowds, image id, original height and width, and 1 if the
            boxes of the image have scores.
    """

    images: Tensor
    boxes: Tensor
    labels: Tensor
    scores: Tensor
    crowds: Tensor
    numbers: Tensor


def collate(samples: Sequence[Sample]) -> Batch:
    """Images [B, 3, S, S] and a list of B targets."""
    return unpack(pack(samples))


def pack(samples: Sequence[Sample]) -> PackedBatch:
    """What a worker sends."""
    targets = [target for _, target in samples]
    numbers = [
        (
            len(target.boxes),
            len(target.crowds),
            target.image_id,
            *target.original_size,
            target.scores is not None,
        )
        for target in targets
    ]
    scores = [
        torch.ones(len(target.boxes)) if target.scores is None else target.scores
        for target in targets
    ]
    return PackedBatch(
        # stacks straight into shared memory when it runs in a worker
        images=cast("Tensor", default_collate([image for image, _ in samples])),
        boxes=torch.cat([target.boxes for target in targets]),
        labels=torch.cat([target.labels for target in targets]),
        scores=torch.cat(scores),
        crowds=torch.cat([target.crowds for target in targets]),
        numbers=torch.tensor(numbers, dtype=torch.int64),
    )


def unpack(packed: PackedBatch) -> Batch:
    """The images and targets that `pack` was given."""
    numbers = packed.numbers.tolist()
    objects = [own[0] for own in numbers]
    crowds = [own[1] for own in numbers]
    columns = zip(
        torch.split(packed.boxes, objects),
        torch.split(packed.labels, objects),
        torch.split(packed.scores, objects),
        torch.split(packed.crowds, crowds),
        numbers,
        strict=True,
    )
    targets = [
        Target(boxes, labels, crowd, own[2], (own[3], own[4]), scores if own[5] else None)
        for boxes, labels, scores, crowd, own in columns
    ]
    return packed.images, targets
