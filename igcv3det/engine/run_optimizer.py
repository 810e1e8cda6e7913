"""Optimizer and learning-rate schedule of a run, as Lightning takes them."""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch
from pytorch_lightning import Trainer
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from igcv3det.config import OptimConfig
from igcv3det.engine.optim import build_optimizer, build_schedule, scaled_lr, warmup_steps
from igcv3det.engine.run_length import run_length

logger = logging.getLogger(__name__)

Schedule = Callable[[Optimizer, OptimConfig, int], LRScheduler]
"""Optimizer, its configuration and the run's optimizer steps to a scheduler stepped every step."""


def run_optimizer(
    trainer: Trainer,
    network: nn.Module,
    config: OptimConfig,
    max_steps: int | None = None,
    schedule: Schedule = build_schedule,
) -> OptimizerLRSchedulerConfig:
    """Builds optimizer and schedule for a run's batch size and length.

    Args:
        trainer: with its data attached.
        network: whose trainable parameters are optimized.
        config: optimizer, learning rate and warm-up.
        max_steps: see `run_length`.
        schedule: builds the scheduler.

    Raises:
        ValueError: the run has no end, which the schedule needs.
    """
    total, batch = run_length(trainer, max_steps)
    lr = scaled_lr(config, batch)
    logger.info(
        "%.2f M parameters; %d steps of %d images; peak lr %.4g after %d warm-up steps",
        sum(parameter.numel() for parameter in network.parameters()) / 1e6,
        total,
        batch,
        lr,
        warmup_steps(config, total),
    )
    optimizer = build_optimizer(network, config, lr)
    scheduler = schedule(optimizer, config, total)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def current_lr(trainer: Trainer) -> Tensor:
    """The learning rate of the step, to be logged.

    A tensor of the CPU: Lightning would copy a number to the GPU, for which a step waits.
    """
    return torch.tensor(float(trainer.optimizers[0].param_groups[0]["lr"]))
