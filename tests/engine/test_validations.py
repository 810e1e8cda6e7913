"""Validations that a run is cut short in, or ends with, are repeated when it is resumed."""

import os
import signal
from contextlib import suppress

import pytest
import tiny
from pytorch_lightning import Callback

from igcv3det.engine.callbacks import PatientStopping, StopAtStep
from igcv3det.engine.checkpoints import LastCheckpoint
from igcv3det.engine.interrupts import RunInterruptedError, StopOnSignal
from igcv3det.engine.validations import PendingValidation
from igcv3det.tasks.detect.module import DetectionModule

# TinyData's loader restarts with its first batch, which does not matter here
pytestmark = pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended")


class KilledError(Exception):
    """Stands for a process that is killed."""


class Validated(Callback):
    """The steps whose weights were validated; raises at the beginning of one of them."""

    def __init__(self, killed_at=None):
        self.steps, self.killed_at = [], killed_at

    def on_validation_batch_start(self, trainer, *_):
        if trainer.global_step == self.killed_at:
            raise KilledError

    def on_validation_epoch_end(self, trainer, pl_module):
        self.steps.append(trainer.global_step)


class Interrupt(Callback):
    def __init__(self, step):
        self.step = step

    def on_train_batch_start(self, trainer, *_):
        if trainer.global_step == self.step:
            os.kill(os.getpid(), signal.SIGINT)


class SameScore(DetectionModule):
    def on_validation_epoch_end(self):
        self.log("val/AP", 0.5)


def validated(folder, every, *callbacks, resumes=False, killed_at=None, **options):
    """Trains on epochs of four steps; returns the steps that were validated."""
    seen, last = Validated(killed_at), LastCheckpoint(folder, every)
    stop = StopOnSignal(last)
    options = {"limit_val_batches": 1, "val_check_interval": 2} | options
    callbacks = [seen, *callbacks, last, stop, PendingValidation()]
    trainer = tiny.trainer(folder, callbacks, **options)
    path = folder / "last.ckpt" if resumes else None
    with suppress(KilledError, RunInterruptedError), stop.handling():
        trainer.fit(
            tiny.module(SameScore),
            datamodule=tiny.TinyData(folder),
            ckpt_path=path,
            weights_only=True,
        )
    return seen.steps


@pytest.mark.parametrize("every", [2, 3, 100])  # validated at steps 2 and 4
def test_a_validation_within_an_epoch_is_repeated(tmp_path, every):
    assert validated(tmp_path, every, killed_at=2) == []
    assert validated(tmp_path, every, resumes=True) == [2, 4]


@pytest.mark.parametrize("every", [2, 100])
def test_a_signal_in_the_step_before_a_validation(tmp_path, every):
    assert validated(tmp_path, every, Interrupt(1)) == []
    assert validated(tmp_path, every, resumes=True) == [2, 4]


@pytest.mark.parametrize("steps", [3, 4])  # within an epoch and at its end
def test_the_validation_of_the_last_step_is_repeated(tmp_path, steps):
    options = {"max_epochs": 5, "val_check_interval": 1.0}
    assert validated(tmp_path, 100, StopAtStep(steps), killed_at=steps, **options) == []
    assert validated(tmp_path, 100, StopAtStep(steps), resumes=True, **options) == [steps]


@pytest.mark.parametrize("every", [2, 100])
def test_a_run_that_ended_early_has_ended_when_it_is_resumed(tmp_path, every):
    for resumes, expected in ((False, [2, 4, 6]), (True, [6])):
        patience = PatientStopping("val/AP", "max", 2)
        assert validated(tmp_path, every, patience, resumes=resumes, max_epochs=4) == expected
        assert patience.has_ended
