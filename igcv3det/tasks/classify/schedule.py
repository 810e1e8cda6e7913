"""The learning-rate curves of the published recipes, over steps."""

from __future__ import annotations

from bisect import bisect_right

import torch
from torch.optim.lr_scheduler import LambdaLR

from igcv3det.config import OptimConfig
from igcv3det.engine.optim import lr_factor, warmup_steps
from igcv3det.tasks.classify.config import ScheduleConfig


def rate_factor(
    step: int, total_steps: int, steps_per_epoch: int, optim: OptimConfig, config: ScheduleConfig
) -> float:
    """Share of the peak learning rate that optimizer step ``step`` uses.

    Args:
        step: from 0.
        total_steps: optimizer steps of the whole run.
        steps_per_epoch: optimizer steps of an epoch.
        optim: the warm-up, which all curves begin with, and the end of the cosine.
        config: the curve.

    Example:
        >>> optim = OptimConfig(warmup_steps=0)
        >>> steps = ScheduleConfig(curve="steps", milestones=(2, 3), factor=0.1)
        >>> [round(rate_factor(step, 40, 10, optim, steps), 3) for step in (0, 19, 20, 30)]
        [1.0, 1.0, 0.1, 0.01]
    """
    if config.curve == "cosine" or step < warmup_steps(optim, total_steps):
        return lr_factor(step, total_steps, optim)
    epoch = step // steps_per_epoch
    drops = epoch if config.curve == "exponential" else bisect_right(config.milestones, epoch)
    return float(config.factor**drops)


def build_rate_schedule(
    optimizer: torch.optim.Optimizer,
    total_steps: int,
    steps_per_epoch: int,
    optim: OptimConfig,
    config: ScheduleConfig,
) -> LambdaLR:
    """The curve of `rate_factor` as a scheduler to be stepped after every optimizer step."""
    return LambdaLR(
        optimizer, lambda step: rate_factor(step, total_steps, steps_per_epoch, optim, config)
    )
