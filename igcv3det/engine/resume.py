"""Resuming a run with other batches or other hyperparameters than before."""

from __future__ import annotations

import copy
import logging
from functools import partial
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from torch.optim.lr_scheduler import LambdaLR

from igcv3det.engine.run_length import run_length

logger = logging.getLogger(__name__)


class ContinuedSchedule(Callback):
    """Makes a resumed run follow its own configuration from the first step on.

    PyTorch restores the hyperparameters of the interrupted run: learning rates, weight decay,
    momentum. Here those of the configuration are used. Where an epoch has another number of steps
    than before, the schedule continues at the share of the epochs that is done; by the number of
    steps alone, a run with twice the batch size would reach the end of its schedule after half of
    its epochs. An epoch that was begun continues at its share too. A run that is resumed as it was
    started does not change.
    """

    def __init__(self) -> None:
        self._epoch_batches = self._epoch_steps = 0
        self._offset = 0
        self._before: dict[str, int] | None = None
        self._groups: list[dict[str, Any]] = []
        self._peak_lrs: list[list[float]] = []

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keeps the configured values, before the checkpoint's replace them."""
        self._groups = [
            {
                name: copy.copy(value)
                for name, value in group.items()
                if name not in ("params", "lr")
            }
            for optimizer in trainer.optimizers
            for group in optimizer.param_groups
        ]
        self._peak_lrs = [
            [float(lr) for lr in schedule.base_lrs] for schedule in _schedules(trainer)
        ]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restores the configured values and moves the schedule to its place."""
        batches = int(trainer.num_training_batches)
        self._epoch_batches = batches
        self._epoch_steps = max(1, -(-batches // trainer.accumulate_grad_batches))
        if trainer.global_step == 0:
            return
        self._continue_epoch(trainer)
        groups = [group for optimizer in trainer.optimizers for group in optimizer.param_groups]
        for group, configured in zip(groups, self._groups, strict=True):
            group.update(configured)
        self._offset = self._schedule_offset(trainer, pl_module)
        for schedule, peaks in zip(_schedules(trainer), self._peak_lrs, strict=True):
            schedule.base_lrs = list(peaks)
            if self._offset:
                schedule.lr_lambdas = [
                    partial(_shifted, factor, self._offset) for factor in schedule.lr_lambdas
                ]
            pairs = zip(schedule.optimizer.param_groups, schedule.lr_lambdas, strict=True)
            for (group, factor), peak in zip(pairs, peaks, strict=True):
                group["lr"] = peak * factor(schedule.last_epoch)
            schedule._last_lr = [group["lr"] for group in schedule.optimizer.param_groups]
        total = run_length(trainer, getattr(pl_module, "max_steps", None)).steps
        left = max(0, total - trainer.global_step - self._offset)
        logger.info("resumed at step %d, %d steps left", trainer.global_step, left)

    def state_dict(self) -> dict[str, int]:
        """Batches and steps of an epoch, and how far the schedule is ahead of the steps."""
        return {
            "epoch_batches": self._epoch_batches,
            "epoch_steps": self._epoch_steps,
            "offset": self._offset,
        }

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Reads the state of the interrupted run."""
        self._before = state_dict

    def _continue_epoch(self, trainer: Trainer) -> None:
        """Lightning counts the batches of the interrupted epoch; it may have other ones now."""
        loop = trainer.fit_loop.epoch_loop
        counts: Any = loop.batch_progress.current
        # checkpoints of earlier versions do not have it
        before = (self._before or {}).get("epoch_batches", self._epoch_batches)
        is_whole = loop.batch_progress.is_last_batch or not trainer.fit_loop.restarting
        if is_whole or before == self._epoch_batches:
            return
        one = int(loop.restarted_on_train_batch_end)  # Lightning completes the batch itself
        done = (counts.completed + one) * self._epoch_batches // before
        done -= done % trainer.accumulate_grad_batches
        counts.ready = counts.started = counts.processed = done
        counts.completed = done - one

    def _schedule_offset(self, trainer: Trainer, pl_module: LightningModule) -> int:
        """Steps that the schedule is ahead of the optimizer; less than 0 if it is behind."""
        if not self._before or self._before["epoch_steps"] == self._epoch_steps:
            return self._before["offset"] if self._before else 0
        max_steps, max_epochs = getattr(pl_module, "max_steps", None), trainer.max_epochs or -1
        ends_by_steps = max_epochs < 0 or (
            max_steps is not None and max_steps <= max_epochs * self._epoch_steps
        )
        if ends_by_steps:
            return 0
        done = trainer.global_step + self._before["offset"]
        return round(done * self._epoch_steps / self._before["epoch_steps"]) - trainer.global_step


def _schedules(trainer: Trainer) -> list[LambdaLR]:
    schedules = [config.scheduler for config in trainer.lr_scheduler_configs]
    return [schedule for schedule in schedules if isinstance(schedule, LambdaLR)]


def _shifted(factor: Any, offset: int, step: int) -> float:  # noqa: ANN401
    return float(factor(step + offset))
