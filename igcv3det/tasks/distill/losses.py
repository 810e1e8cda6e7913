"""Distillation losses: features, class scores and offsets of student and teacher.

What a loss divides by can be shared, which averages it over the processes of a distributed run: the
average of their gradients is then that of one process with all images. Not in evaluation, where
processes may have different numbers of batches.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from igcv3det.detection.losses import average_over_processes
from igcv3det.structures import HeadOutputs

# share of the mean variance of the channels: a nearly constant channel would dominate the loss
_MIN_VARIANCE = 0.05


def unexplained_variance(student: Tensor, teacher: Tensor, *, shared: bool = False) -> Tensor:
    """Squared error as a share of the teacher's variance, averaged over channels.

    0 where both agree; 1 for a student that outputs the teacher's mean of each channel.

    Args:
        student: [B, C, H, W].
        teacher: [B, C, H, W], without gradient.
        shared: the teacher's variance is that in the images of all processes.

    Returns:
        A scalar, float32.
    """
    student, teacher = student.float(), teacher.float()
    variance, mean = torch.var_mean(teacher, dim=(0, 2, 3), correction=0)
    if shared:
        overall = average_over_processes(mean.clone())
        variance = average_over_processes(variance + (mean - overall).square())
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


def offset_error(student: HeadOutputs, teacher: HeadOutputs, *, shared: bool = False) -> Tensor:
    """Smooth L1 between offsets, weighted by the teacher's highest class score at each anchor.

    Args:
        student: raw head outputs.
        teacher: the same, without gradient.
        shared: the sum of the weights is the average of all processes.

    Returns:
        A scalar, float32: the weighted mean over anchors of the sum over the four offsets.
    """
    weights = teacher.logits[..., 1:].float().amax(dim=-1).sigmoid()  # [B, A]
    errors = F.smooth_l1_loss(student.offsets.float(), teacher.offsets.float(), reduction="none")
    total = average_over_processes(weights.sum()) if shared else weights.sum()
    return (errors.sum(dim=-1) * weights).sum() / total.clamp(min=1e-6)
