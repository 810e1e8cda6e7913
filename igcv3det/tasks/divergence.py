"""Divergence of a network's outputs from its teacher's, and directions in which it grows."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from igcv3det.structures import HeadOutputs

Activation = str


def output_divergence(own: HeadOutputs, teacher: HeadOutputs, activation: Activation) -> Tensor:
    """Kullback-Leibler divergence of the class scores plus that of the offsets.

    Scores are binary variables for each class (``sigmoid``; the unused background is left out) or
    one distribution over classes and background (``softmax``). Offsets are taken as the means of
    normal distributions of unit variance, weighted by the teacher's highest score of a class.

    Args:
        own: of the detector that is judged.
        teacher: of the detector that it replaces.
        activation: ``config.head.activation``.

    Returns:
        [B], nats.
    """
    scores = logits_divergence(own.logits, teacher.logits, activation)
    errors = (own.offsets.float() - teacher.offsets.float()).square().sum(dim=-1)
    weights = foreground(teacher.logits.float(), activation)
    return scores + 0.5 * (errors * weights).sum(dim=1)


def logits_divergence(own: Tensor, teacher: Tensor, activation: Activation) -> Tensor:
    """The divergence of class scores alone, [B] nats, of logits [B, A, K + 1]."""
    own, teacher = own.float(), teacher.float()
    if activation == "softmax":
        target = teacher.log_softmax(dim=-1)
        each = F.kl_div(own.log_softmax(dim=-1), target, reduction="none", log_target=True)
        return each.sum(dim=(1, 2))
    own, teacher = own[..., 1:], teacher[..., 1:]
    p = teacher.sigmoid()
    # p log(p / q) + (1 - p) log((1 - p) / (1 - q)), by softplus for logits of any size
    each = p * (teacher - own) + F.softplus(own) - F.softplus(teacher)
    return each.sum(dim=(1, 2))


def foreground(logits: Tensor, activation: Activation) -> Tensor:
    """[B, A]: the highest score of a class at each anchor."""
    scores = logits.softmax(dim=-1) if activation == "softmax" else logits.sigmoid()
    return scores[..., 1:].amax(dim=-1)


def fisher_direction(
    outputs: HeadOutputs, activation: Activation, generator: torch.Generator
) -> HeadOutputs:
    """A random vector whose covariance is the Fisher information of the outputs.

    Its backpropagation to a feature map gives vectors whose covariance is the Fisher information
    there: half of ``d^T F d`` is the divergence that a small error d causes.

    Returns:
        Of the shapes of the outputs.
    """
    logits, offsets = outputs.logits.detach(), outputs.offsets.detach()
    if activation == "softmax":
        direction = softmax_direction(logits, generator)
    else:
        noise = torch.randn(logits.shape, generator=generator)
        p = logits.sigmoid()
        direction = (p * (1 - p)).sqrt() * noise
        direction[..., 0] = 0
    weights = foreground(logits, activation).sqrt()[..., None]
    return HeadOutputs(direction, weights * torch.randn(offsets.shape, generator=generator))


def softmax_direction(logits: Tensor, generator: torch.Generator) -> Tensor:
    """A random vector whose covariance is the Fisher information of distributions over classes.

    Args:
        logits: [..., K].
        generator: of the random numbers.
    """
    p = logits.softmax(dim=-1)
    scaled = p.sqrt() * torch.randn(logits.shape, generator=generator)
    return scaled - p * scaled.sum(dim=-1, keepdim=True)
