"""Optimizer, parameter groups and learning-rate schedule.

The schedule is a linear warm-up, then half a cosine down to ``OptimConfig.final_lr``. It advances
once per optimizer step, so that it does not depend on the length of an epoch.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from igcv3det.config import OptimConfig
from igcv3det.engine.muon import Muon


def scaled_lr(config: OptimConfig, total_batch: int) -> float:
    """The peak learning rate for this many images per optimizer step.

    Args:
        config: learning rate and the batch that it is for.
        total_batch: images of all processes and accumulated batches together.

    Source: Goyal et al., Accurate, Large Minibatch SGD, arXiv:1706.02677, section 2.1.

    Example:
        >>> round(scaled_lr(OptimConfig(lr=0.15, lr_batch_size=192), 32), 6)
        0.025
    """
    if config.lr_batch_size is None:
        return config.lr
    return config.lr * total_batch / config.lr_batch_size


def parameter_groups(module: nn.Module, config: OptimConfig) -> list[dict[str, Any]]:
    """Trainable parameters in two groups: with weight decay and without.

    Biases and the scales of normalisation layers (all that have one dimension) decay only with
    ``decay_norms``. An empty group is left out.
    """
    trainable = [parameter for parameter in module.parameters() if parameter.requires_grad]
    decays = [config.decay_norms or parameter.ndim > 1 for parameter in trainable]
    groups = [
        {
            "name": name,
            "weight_decay": config.weight_decay if wanted else 0.0,
            "params": [p for p, decay in zip(trainable, decays, strict=True) if decay == wanted],
        }
        for name, wanted in (("decay", True), ("no_decay", False))
    ]
    return [group for group in groups if group["params"]]


def build_optimizer(module: nn.Module, config: OptimConfig, lr: float) -> torch.optim.Optimizer:
    """The optimizer that ``config`` names over the module's trainable parameters.

    Args:
        module: the network.
        config: optimizer, momentum and weight decay.
        lr: peak learning rate, already scaled to the batch.
    """
    if config.optimizer == "muon":
        return _build_muon(module, config, lr)
    groups = parameter_groups(module, config)
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=lr)
    return torch.optim.SGD(groups, lr=lr, momentum=config.momentum)


def _build_muon(module: nn.Module, config: OptimConfig, lr: float) -> Muon:
    # Muon is for hidden layers; the scale of the extra and prediction layers' outputs matters
    backbone = getattr(module, "backbone", module)
    pointwise = {
        part.weight: part.groups
        for part in backbone.modules()
        if isinstance(part, nn.Conv2d) and part.kernel_size == (1, 1) and part.weight.requires_grad
    }
    groups = [
        {**group, "lr": lr, "params": [p for p in group["params"] if p not in pointwise]}
        for group in parameter_groups(module, config)
    ]
    matrices = {
        "name": "matrices",
        "lr": config.muon_lr,
        "weight_decay": config.weight_decay,
        "params": list(pointwise),
        "matrices": list(pointwise.values()),
    }
    return Muon(
        [group for group in (*groups, matrices) if group["params"]], momentum=config.muon_momentum
    )


def warmup_steps(config: OptimConfig, total_steps: int) -> int:
    """Steps of the warm-up: as configured, but at most half of the run."""
    return min(config.warmup_steps, total_steps // 2)


def lr_factor(step: int, total_steps: int, config: OptimConfig) -> float:
    """Learning rate of an optimizer step as a share of the peak.

    Args:
        step: from 0; from ``total_steps`` on the last value stays.
        total_steps: optimizer steps of the whole run.
        config: length and start of the warm-up, final share.

    Example:
        >>> config = OptimConfig(warmup_steps=2, warmup_start=0.5, final_lr=0.0)
        >>> [round(lr_factor(step, 10, config), 3) for step in (0, 1, 2, 6, 10)]
        [0.5, 0.75, 1.0, 0.5, 0.0]
    """
    warmup = warmup_steps(config, total_steps)
    if step < warmup:
        return config.warmup_start + (1 - config.warmup_start) * step / warmup
    progress = min(1.0, (step - warmup) / max(1, total_steps - warmup))
    cosine = 0.5 * (1 + math.cos(math.pi * progress))
    return config.final_lr + (1 - config.final_lr) * cosine


def build_schedule(
    optimizer: torch.optim.Optimizer, config: OptimConfig, total_steps: int
) -> LambdaLR:
    """`lr_factor` as a scheduler that is stepped after every optimizer step."""
    return LambdaLR(optimizer, lambda step: lr_factor(step, total_steps, config))
