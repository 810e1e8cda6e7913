"""Distillation losses: features and offsets of student and teacher; scores by `tasks.divergence`.

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
from igcv3det.tasks.divergence import Activation, foreground

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


def offset_error(
    student: HeadOutputs, teacher: HeadOutputs, activation: Activation, *, shared: bool = False
) -> Tensor:
    """Smooth L1 between offsets, weighted by the teacher's highest class score at each anchor.

    Args:
        student: raw head outputs.
        teacher: the same, without gradient.
        activation: ``config.head.activation``.
        shared: the sum of the weights is the average of all processes.

    Returns:
        A scalar, float32: the weighted mean over anchors of the sum over the four offsets.
    """
    weights = foreground(teacher.logits.float(), activation)
    errors = F.smooth_l1_loss(student.offsets.float(), teacher.offsets.float(), reduction="none")
    total = average_over_processes(weights.sum()) if shared else weights.sum()
    return (errors.sum(dim=-1) * weights).sum() / total.clamp(min=1e-6)
