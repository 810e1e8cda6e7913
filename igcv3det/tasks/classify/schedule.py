"""Learning-rate schedules of the published recipes, per optimizer step."""

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
    """Learning rate of an optimizer step as a share of the peak.

    Args:
        step: from 0.
        total_steps: optimizer steps of the whole run.
        steps_per_epoch: optimizer steps of an epoch.
        optim: warm-up of all schedules, final learning rate of the cosine.
        config: schedule.

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
    """`rate_factor` as a scheduler that is stepped after every optimizer step."""
    return LambdaLR(
        optimizer, lambda step: rate_factor(step, total_steps, steps_per_epoch, optim, config)
    )
