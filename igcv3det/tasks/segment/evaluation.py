"""Intersection over union of every class and its mean, from one confusion matrix."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from igcv3det.tasks.segment.masks import IGNORED


class Confusion:
    """Counts pixels by true and predicted class; images are added one by one and not kept.

    Args:
        num_classes: K.
        device: where pixels are counted.
    """

    def __init__(self, num_classes: int, device: str | torch.device = "cpu") -> None:
        self.num_classes = num_classes
        self.matrix = torch.zeros(num_classes, num_classes, dtype=torch.int64, device=device)

    def add(self, predicted: Tensor, truth: Tensor) -> None:
        """Adds an image.

        Args:
            predicted: [H, W] classes 0 to K - 1.
            truth: [H, W] classes; pixels of ``IGNORED`` are not counted.
        """
        self.matrix += count_pixels(predicted, truth, self.num_classes).to(self.matrix.device)


def count_pixels(predicted: Tensor, truth: Tensor, num_classes: int) -> Tensor:
    """[K, K] int64 pixels of an image: true class by predicted class.

    Example:
        >>> count_pixels(torch.tensor([0, 1, 1]), torch.tensor([0, 0, 255]), 2).tolist()
        [[1, 1], [0, 0]]
    """
    counted = truth != IGNORED
    pairs = truth[counted].long() * num_classes + predicted[counted].long()
    counts = torch.bincount(pairs, minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes)


def class_ious(matrix: Tensor) -> Tensor:
    """[K] float64: intersection over union of each class; NaN where no pixel has or gets it.

    Args:
        matrix: [K, K] pixels, true class by predicted class.
    """
    hits = matrix.diagonal().double()
    union = matrix.sum(0) + matrix.sum(1) - matrix.diagonal()
    return torch.where(union > 0, hits / union.clamp(min=1), torch.nan)


class SegmentationScores(NamedTuple):
    """Scores in 0..1.

    Attributes:
        confusion: [K, K] int64 pixels, true class by predicted class.
        names: of the classes.
        images: number of images.
        ignored: classes whose own pixels are not counted, so that they have no IoU.
    """

    confusion: Tensor
    names: Sequence[str]
    images: int
    ignored: Collection[int] = ()

    @property
    def per_class(self) -> dict[str, float | None]:
        """IoU of each class; None for one that is ignored, or without a pixel in both."""
        values = class_ious(self.confusion).tolist()
        return {
            name: None if value != value or number in self.ignored else value
            for number, (name, value) in enumerate(zip(self.names, values, strict=True))
        }

    @property
    def miou(self) -> float | None:
        """Mean IoU of the classes that have one; None where no pixel counts."""
        values = [value for value in self.per_class.values() if value is not None]
        return sum(values) / len(values) if values else None

    def as_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        total = int(self.confusion.sum())
        right = int(self.confusion.diagonal().sum())
        return {
            "mIoU": self.miou,
            "pixel_accuracy": right / total if total else None,
            "images": self.images,
            "per_class": self.per_class,
            "pixels": dict(zip(self.names, self.confusion.sum(1).tolist(), strict=True)),
            "confusion": self.confusion.tolist(),
        }
