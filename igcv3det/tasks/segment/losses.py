"""Cross-entropy of the pixels that count."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from igcv3det.tasks.segment.config import PixelLossConfig
from igcv3det.tasks.segment.masks import IGNORED


class PixelLoss(nn.Module):
    """Mean cross-entropy over the pixels of a batch, weighted by class; 0 where none counts.

    Args:
        config: weights and label smoothing.
        num_classes: K.
        pixels: [K] pixels of each class in the training masks, for ``config.balance``; None weighs
            all alike.

    Raises:
        ValueError: another number of ``config.class_weights`` than classes.
    """

    def __init__(
        self, config: PixelLossConfig, num_classes: int, pixels: Sequence[int] | None = None
    ) -> None:
        super().__init__()
        self.label_smoothing = config.label_smoothing
        given = config.class_weights
        if given is not None and len(given) != num_classes:
            raise ValueError(f"loss.class_weights needs {num_classes} numbers, got {len(given)}")
        weights = torch.ones(num_classes)
        if given is not None:
            weights = torch.tensor(given)
        elif pixels is not None and config.balance > 0:
            weights = balanced_weights(pixels, config.balance, config.max_weight)
        self.weights: Tensor
        self.register_buffer("weights", weights, persistent=False)

    def forward(self, logits: Tensor, masks: Tensor) -> Tensor:
        """The loss.

        Args:
            logits: [B, K, H, W] float32.
            masks: [B, H, W] uint8 classes or ``IGNORED``.
        """
        classes = masks.long()
        total = F.cross_entropy(
            logits,
            classes,
            self.weights,
            ignore_index=IGNORED,
            reduction="sum",
            label_smoothing=self.label_smoothing,
        )
        is_known = masks != IGNORED
        weight = (self.weights[classes * is_known] * is_known).sum()
        # torch's mean would be NaN where all are ignored, and to ask for that is to wait for a GPU
        return total / weight.clamp(min=torch.finfo(weight.dtype).tiny)


def balanced_weights(pixels: Sequence[int], exponent: float, largest: float) -> Tensor:
    """[K] weights of the classes: (median frequency / frequency) ** exponent, at most ``largest``.

    Classes without a pixel weigh 1 and do not count for the median.

    Example:
        >>> balanced_weights([100, 400, 25], 0.5, 10.0).tolist()
        [1.0, 0.5, 2.0]
    """
    counts = torch.tensor(pixels, dtype=torch.float64)
    present = counts > 0
    ratio = torch.where(present, counts[present].quantile(0.5) / counts.clamp(min=1), 1.0)
    return (ratio**exponent).clamp(max=largest).float()
