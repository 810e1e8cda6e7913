"""Callbacks of every training: non-finite losses, seeds, the end of the run, reports."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import EarlyStopping, TQDMProgressBar
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor

from igcv3det.engine.run_length import run_length

logger = logging.getLogger(__name__)

PROGRESS_REFRESH_STEPS = 10


class NonFiniteLossError(RuntimeError):
    """The loss of a batch is NaN or infinite."""


class FiniteLossGuard(Callback):
    """Stops the run before a batch whose loss is not finite changes the weights.

    On the CPU the check comes before the backward pass. On a GPU waiting there would stall the
    queue, so the loss is copied to the host and checked one step later, and before a checkpoint is
    written: every checkpoint on disk is from before the first non-finite loss. Gradients are not
    checked; under fp16 the scaler handles their overflow.

    Args:
        image_ids: returns the ids of a batch's images, for the message.
    """

    def __init__(self, image_ids: Callable[[Any], list[int]]) -> None:
        self._read_image_ids = image_ids
        self._image_ids: list[int] = []
        self._pending: tuple[torch.cuda.Event, Tensor, list[str], list[int], int] | None = None

    def on_train_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Notes the batch's image ids."""
        self._image_ids = self._read_image_ids(batch)

    def on_before_backward(
        self, trainer: Trainer, pl_module: LightningModule, loss: Tensor
    ) -> None:
        """Checks this batch, or on a GPU the previous one.

        Raises:
            NonFiniteLossError: names the step, each part of the loss and the batch's image ids.
        """
        losses: dict[str, Tensor] = pl_module.losses  # type: ignore[assignment]
        values = torch.stack(list(losses.values()))
        if values.device.type != "cuda":
            _check_finite(values, list(losses), self._image_ids, trainer.global_step)
            return
        self._check_pending()
        # only a copy to pinned memory does not block the host
        copy = torch.empty(values.shape, pin_memory=True).copy_(values, non_blocking=True)
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record()
        self._pending = (event, copy, list(losses), self._image_ids, trainer.global_step)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Checks the previous batch before a checkpoint is written."""
        self._check_pending()

    def _check_pending(self) -> None:
        if self._pending is not None:
            event, values, names, image_ids, step = self._pending
            self._pending = None
            event.synchronize()
            _check_finite(values, names, image_ids, step)


def _check_finite(values: Tensor, names: list[str], image_ids: list[int], step: int) -> None:
    if all(math.isfinite(value) for value in values.tolist()):
        return
    parts = ", ".join(
        f"{name} {value:g}" for name, value in zip(names, values.tolist(), strict=True)
    )
    raise NonFiniteLossError(
        f"the loss of step {step} is not finite ({parts}); image ids of the batch: {image_ids}; "
        "the checkpoints are from before this step; check these images, or lower model.optim.lr"
    )


class RepeatableSteps(Callback):
    """Seeds PyTorch at every training batch, from the run's seed, the batch and the process.

    Random numbers of a step, such as those of dropout, then do not depend on earlier steps, so a
    resumed run repeats an uninterrupted one without a generator's state in the checkpoint.

    Args:
        seed: of the run.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Seeds the CPU's and the GPU's default generators."""
        entropy = (self.seed, trainer.fit_loop.total_batch_idx, trainer.global_rank)
        torch.manual_seed(int(np.random.SeedSequence(entropy).generate_state(1)[0]))


class StopAtStep(Callback):
    """Ends the run after ``max_steps`` optimizer steps and a validation of the last weights.

    The trainer's own ``max_steps`` does not validate within an epoch, and makes Lightning 2.6 count
    an epoch twice when a run is resumed from that epoch's end.

    Args:
        max_steps: optimizer steps of the whole run.
    """

    def __init__(self, max_steps: int) -> None:
        self.max_steps = max_steps

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Ends a run that is resumed after its last step."""
        self._stop(trainer)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Asks Lightning to stop, which it does after a validation."""
        self._stop(trainer)

    def _stop(self, trainer: Trainer) -> None:
        if trainer.global_step >= self.max_steps:
            trainer.should_stop = True
            if trainer.check_val_every_n_epoch is not None:
                trainer.check_val_every_n_epoch = 1  # else Lightning leaves out the validation


class PatientStopping(EarlyStopping):
    """Ends the run after some validations without a better metric, NaN among them.

    A run that ended so is over when it is resumed; with more patience it continues.

    Args:
        monitor: name of the metric.
        mode: "max" or "min".
        patience: validations.
    """

    def __init__(self, monitor: str, mode: str, patience: int) -> None:
        super().__init__(monitor, mode=mode, patience=patience, check_finite=False)

    @property
    def has_ended(self) -> bool:
        """Whether there was nothing better for so long."""
        return self.wait_count >= self.patience

    @property
    def state_key(self) -> str:
        """As checkpoints of earlier versions have it."""
        return super().state_key.replace(type(self).__qualname__, EarlyStopping.__qualname__, 1)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Ends a run that is resumed after its end."""
        if self.has_ended:
            trainer.should_stop = True

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes what was waited; the patience is this run's."""
        super().load_state_dict({**state_dict, "patience": self.patience})


class ProgressLine(TQDMProgressBar):
    """Lightning's progress bar with the time left until the end of the run.

    It is without ``v_num``, which shows a part of a logger's name here.
    """

    def __init__(self) -> None:
        super().__init__(refresh_rate=PROGRESS_REFRESH_STEPS)
        self._started: tuple[float, int] | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Notes time and step, which is that of the checkpoint where a run is resumed."""
        super().on_train_start(trainer, pl_module)
        self._started = time.monotonic(), trainer.global_step

    def get_metrics(
        self, trainer: Trainer, pl_module: LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """The metrics at the end of the line."""
        metrics = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        if self._started is not None and trainer.global_step > self._started[1]:
            begun, first = self._started
            step_s = (time.monotonic() - begun) / (trainer.global_step - first)
            steps = run_length(trainer, getattr(pl_module, "max_steps", None)).steps
            left = timedelta(seconds=round(step_s * max(0, steps - trainer.global_step)))
            metrics["left"] = str(left)
        return metrics


class ReportLines(Callback):
    """Logs one line after each validation.

    Args:
        figures: names of the metrics to show.
    """

    def __init__(self, figures: Sequence[str]) -> None:
        self.figures = figures

    @rank_zero_only
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Logs epoch, step and metrics."""
        if trainer.sanity_checking:
            return
        figures = trainer.callback_metrics
        shown = [key for key in self.figures if key in figures]
        text = ", ".join(f"{key} {figures[key].item():.4f}" for key in shown)
        logger.info("epoch %d, step %d: %s", trainer.current_epoch, trainer.global_step, text)
