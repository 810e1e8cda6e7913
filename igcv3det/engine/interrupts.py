"""Ctrl-C and SIGTERM: the run saves its last step and ends."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint

from igcv3det.engine.checkpoints import LastCheckpoint
from igcv3det.engine.validations import validation_follows

SIGNALS = (signal.SIGINT, signal.SIGTERM)
_AGREED_STEPS = 10  # several processes ask each other so rarely, for it stalls a GPU


class RunInterruptedError(Exception):
    """A run was ended by a signal.

    Attributes:
        signum: the signal.
        step: the last optimizer step, which is saved; None if none was taken.
        resume_with: the command that resumes the run, if it can be resumed.
    """

    def __init__(self, signum: int, step: int | None = None) -> None:
        super().__init__(f"ended by {signal.Signals(signum).name}")
        self.signum = signum
        self.step = step
        self.resume_with: str | None = None

    @property
    def exit_status(self) -> int:
        """Exit status of the program, 128 plus the signal: 130 or 143."""
        return 128 + self.signum


class StopOnSignal(Checkpoint):
    """Ends a run after the step at which a signal came; a second signal ends it at once.

    A checkpoint callback, because Lightning calls these after all others. In a validation the run
    ends at once: `LastCheckpoint` has saved before it.

    Args:
        last: saves.
    """

    def __init__(self, last: LastCheckpoint) -> None:
        self._last = last
        self._signum: int | None = None
        self._trains = False
        self._is_installed = False
        self._step = 0

    @contextmanager
    def handling(self) -> Iterator[None]:
        """In this block the signals are this callback's; only the main thread can handle them."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        replaced = {number: signal.getsignal(number) for number in SIGNALS}
        self._install()
        try:
            yield
        finally:
            for number, handler in replaced.items():
                signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes SIGTERM back from Lightning, whose handler ends a run without saving."""
        self._trains, self._step = True, trainer.global_step
        if self._is_installed:
            self._install()

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Saves and ends the run after a step.

        Not where an epoch ends or a validation follows: there it is saved a little later.
        """
        has_stepped = trainer.global_step != self._step
        self._step = trainer.global_step
        is_asked = trainer.world_size == 1 or self._step % _AGREED_STEPS == 0
        is_last = trainer.is_last_batch or validation_follows(trainer)
        if has_stepped and is_asked and not is_last and self._is_agreed(trainer):
            self._last.save_after_batch(trainer)
            self._end(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Ends the run; it is saved."""
        if not trainer.sanity_checking and self._is_agreed(trainer):
            self._end(trainer)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401
        batch: Any,  # noqa: ANN401
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Ends the run; several processes have different numbers of batches and do so later."""
        if not trainer.sanity_checking and trainer.world_size == 1 and self._signum is not None:
            self._end(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Ends the run; it is saved."""
        if self._is_agreed(trainer):
            self._end(trainer)

    def _is_agreed(self, trainer: Trainer) -> bool:
        stops = self._signum is not None
        if trainer.world_size > 1:
            stops = trainer.strategy.reduce_boolean_decision(stops, all=False)
        return stops

    def _end(self, trainer: Trainer) -> None:
        raise RunInterruptedError(self._signum or signal.SIGTERM, trainer.global_step)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if self._signum is not None or not self._trains:
            raise RunInterruptedError(signum)
        self._signum = signum

    def _install(self) -> None:
        self._is_installed = True
        for number in SIGNALS:
            signal.signal(number, self._handle)
