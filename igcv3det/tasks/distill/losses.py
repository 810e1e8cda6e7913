"""Distillation losses: features, class scores and offsets of student and teacher."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from igcv3det.structures import HeadOutputs

# share of the mean variance of the channels: a nearly constant channel would dominate the loss
_MIN_VARIANCE = 0.05


def unexplained_variance(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared error as a share of the teacher's variance, averaged over channels.

    0 where both agree; 1 for a student that outputs the teacher's mean of each channel.

    Args:
        student: [B, C, H, W].
        teacher: [B, C, H, W], without gradient.

    Returns:
        A scalar, float32.
    """
    student, teacher = student.float(), teacher.float()
    variance = teacher.var(dim=(0, 2, 3), correction=0)
    variance = torch.maximum(variance, _MIN_VARIANCE * variance.mean())
    error = (student - teacher).square().mean(dim=(0, 2, 3))
    return (error / variance.clamp(min=torch.finfo(torch.float32).tiny)).mean()


def score_divergence(student: HeadOutputs, teacher: HeadOutputs) -> Tensor:
    """Kullback-Leibler divergence of the teacher's class scores from the student's.

    Each class of each anchor is a binary variable (sigmoid heads); the background column, which
    such heads do not use, is left out. Sum over an image, mean over images.

    Returns:
        A scalar in nats, float32.
    """
    logits, target = student.logits[..., 1:].float(), teacher.logits[..., 1:].float().sigmoid()
    cross = F.binary_cross_entropy_with_logits(logits, target, reduction="sum")
    own = torch.special.entr(target).sum() + torch.special.entr(1 - target).sum()
    divergence: Tensor = (cross - own) / len(logits)
    return divergence


def offset_error(student: HeadOutputs, teacher: HeadOutputs) -> Tensor:
    """Smooth L1 between offsets, weighted by the teacher's highest class score at each anchor.

    Returns:
        A scalar, float32: the weighted mean over anchors of the sum over the four offsets.
    """
    weights = teacher.logits[..., 1:].float().amax(dim=-1).sigmoid()  # [B, A]
    errors = F.smooth_l1_loss(student.offsets.float(), teacher.offsets.float(), reduction="none")
    return (errors.sum(dim=-1) * weights).sum() / weights.sum().clamp(min=1e-6)
