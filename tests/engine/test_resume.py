"""Learning rates of resumed runs, by hand: peak times (1 + cos(pi * share)) / 2 after warm-up."""

import dataclasses

import pytest
import tiny
import torch
from pytorch_lightning import Callback

from igcv3det.engine.callbacks import StopAtStep
from igcv3det.engine.checkpoints import LastCheckpoint
from igcv3det.engine.resume import ContinuedSchedule

OPTIM = dataclasses.replace(tiny.OPTIM, lr=0.01, warmup_steps=0, ema_decay=None)


class Rates(Callback):
    """The learning rate and weight decay of each step."""

    def __init__(self):
        self.values = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        group = trainer.optimizers[0].param_groups[0]
        self.values.append((group["lr"], group["weight_decay"]))


def rates(folder, batch_size, stop=None, ckpt_path=None, max_epochs=4, **optim):
    """Trains four epochs of eight images, or until a step, or what a checkpoint leaves of them."""
    seen = Rates()
    callbacks = [ContinuedSchedule(), seen, LastCheckpoint(folder, 100)]
    callbacks += [StopAtStep(stop)] if stop else []
    trainer = tiny.trainer(folder, callbacks, max_epochs=max_epochs, limit_val_batches=0)
    module = tiny.module(optim=dataclasses.replace(OPTIM, **optim))
    data = tiny.TinyData(folder, batch_size=batch_size)
    trainer.fit(module, datamodule=data, ckpt_path=ckpt_path, weights_only=True)
    return seen.values


def cosine(*shares):
    return [0.01 * (1 + torch.tensor(share * torch.pi).cos().item()) / 2 for share in shares]


def test_unchanged_run_follows_its_schedule(tmp_path):
    unbroken = rates(tmp_path, 2)
    before = rates(tmp_path, 2, stop=8)
    after = rates(tmp_path, 2, ckpt_path=tmp_path / "last.ckpt")
    assert before + after == unbroken  # to the last bit
    assert [lr for lr, _ in unbroken[::4]] == pytest.approx(cosine(0, 1 / 4, 2 / 4, 3 / 4))


def test_other_batches_continue_at_the_share_of_epochs(tmp_path):
    rates(tmp_path, 2, stop=8)  # half of the run
    after = rates(tmp_path, 4, ckpt_path=tmp_path / "last.ckpt", stop=10)
    assert [lr for lr, _ in after] == pytest.approx(cosine(4 / 8, 5 / 8))
    # resumed again, now three quarters of the run are done
    last = rates(tmp_path, 4, ckpt_path=tmp_path / "last.ckpt")
    assert [lr for lr, _ in last] == pytest.approx(cosine(6 / 8, 7 / 8))


def test_a_longer_run_continues_from_its_own_curve(tmp_path):
    """After two of two epochs the rate is 0; two more are the second half of a longer curve."""
    rates(tmp_path, 2, max_epochs=2)
    after = rates(tmp_path, 2, ckpt_path=tmp_path / "last.ckpt", max_epochs=4)
    assert [lr for lr, _ in after][:2] == pytest.approx(cosine(8 / 16, 9 / 16))


def test_hyperparameters_are_those_of_the_configuration(tmp_path):
    rates(tmp_path, 2, stop=8)
    last = tmp_path / "last.ckpt"
    after = rates(tmp_path, 2, ckpt_path=last, lr=0.02, weight_decay=0.5)
    assert [lr / 2 for lr, _ in after][:2] == pytest.approx(cosine(8 / 16, 9 / 16))
    assert {decay for _, decay in after} == {0.5}
