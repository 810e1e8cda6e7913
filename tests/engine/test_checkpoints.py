import math
import os
from pathlib import Path

import pytest
import tiny
import torch
from pytorch_lightning import Callback
from pytorch_lightning.callbacks import EarlyStopping

from igcv3det import load_detector, save_detector
from igcv3det.detector import build_detector
from igcv3det.engine.callbacks import StopAtStep
from igcv3det.engine.checkpoints import (
    AtomicCheckpointIO,
    BestCheckpoint,
    LastCheckpoint,
    finish,
)


def test_writing_leaves_nothing_else_behind(tmp_path):
    path = tmp_path / "checkpoints" / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"a": 1}, path)
    AtomicCheckpointIO().save_checkpoint({"a": 2}, path)
    assert torch.load(path, weights_only=True) == {"a": 2}
    assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"]


def test_interrupted_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"a": 1}, path)

    def half(checkpoint, file):
        file.write(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr("torch.save", half)
    with pytest.raises(OSError, match="no space"):
        AtomicCheckpointIO().save_checkpoint({"a": 2}, path)
    assert torch.load(path, weights_only=True) == {"a": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_named(tmp_path, monkeypatch):
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"a": 1}, path)
    (tmp_path / f"last.ckpt.{os.getpid()}.partial").symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"last\.ckpt: the disk is full"):
        AtomicCheckpointIO().save_checkpoint({"a": torch.zeros(100_000)}, path)
    assert torch.load(path, weights_only=True) == {"a": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]


class Saved(Callback):
    """After which steps a checkpoint was written."""

    def __init__(self):
        self.steps = []

    def on_save_checkpoint(self, trainer, pl_module, checkpoint):
        self.steps.append(trainer.global_step)


class OutOfTime(Callback):
    """Ends the run after the first step, as Lightning's timer does."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        trainer.should_stop = True


@pytest.mark.parametrize(
    ("options", "stops", "expected"),
    [
        ({}, [], [3, 4, 6, 8]),  # every third step, and each epoch of four
        ({}, [StopAtStep(5)], [3, 4, 5]),  # and where the run ends
        ({}, [OutOfTime()], [1]),
        ({"accumulate_grad_batches": 2}, [], [2, 3, 4]),  # two steps an epoch
        # before and after the validation of an epoch; twice at the epoch's end
        ({"limit_val_batches": 1}, [], [3, 4, 4, 6, 8, 8]),
        # before validations within an epoch, as one of them may stop the run
        (
            {"limit_val_batches": 1, "val_check_interval": 2},
            [EarlyStopping("val/loss", stopping_threshold=1e9)],
            [2],
        ),
        ({"fast_dev_run": 2}, [], []),
    ],
)
def test_when_the_last_checkpoint_is_saved(tmp_path, options, stops, expected):
    saved = Saved()
    callbacks = [saved, LastCheckpoint(tmp_path, every_n_steps=3), *stops]
    options = {"max_epochs": 2, "limit_val_batches": 0} | options
    trainer = tiny.trainer(tmp_path, callbacks, **options)
    trainer.fit(tiny.module(), datamodule=tiny.TinyData(tmp_path))
    assert saved.steps == expected


def release_detector(checkpoint, target):
    save_detector(load_detector(checkpoint), target)


def test_best_is_kept_and_released(tmp_path):
    folder = tmp_path / "checkpoints"
    best = BestCheckpoint(folder, "val/loss", "min")
    trainer = tiny.trainer(tmp_path, [best, LastCheckpoint(folder, 100)])
    trainer.fit(tiny.module(), datamodule=tiny.TinyData(tmp_path))
    release = finish(folder, release_detector, best)
    assert release == folder / "best.safetensors"
    best = load_detector(folder / "best.ckpt").state_dict()
    for name, value in load_detector(release).state_dict().items():
        assert torch.equal(value, best[name])


def test_the_released_file_has_normal_permissions(tmp_path):
    save_detector(build_detector(tiny.DETECTOR), tmp_path / "best.safetensors")
    (tmp_path / "plain").touch()
    modes = {(tmp_path / name).stat().st_mode for name in ("best.safetensors", "plain")}
    assert len(modes) == 1


class Values(tiny.DetectionModule):
    """Logs given values in the place of AP, one a validation."""

    values = ()

    def on_validation_epoch_end(self):
        self.log("val/AP", self.values[self.trainer.current_epoch])


@pytest.mark.parametrize(
    ("values", "best_step", "warning"),
    [
        ((), 8, "nothing was validated"),
        ((math.nan, math.nan), 8, "val/AP was NaN or 0 in every validation"),
        ((0.0, 0.0), 8, "val/AP was NaN or 0 in every validation"),
        ((math.nan, 0.0), 8, "val/AP was NaN or 0 in every validation"),
        ((0.5, 0.5), 8, None),  # of equals the later
        ((0.5, 0.25), 4, None),
        ((0.5, math.nan), 4, None),
        ((math.nan, 0.5), 8, None),
    ],
)
def test_which_checkpoint_is_the_best(tmp_path, caplog, values, best_step, warning):
    folder = tmp_path / "checkpoints"
    best = BestCheckpoint(folder, "val/AP", "max")
    module = tiny.module(kind=Values)
    module.values = values
    options = {"max_epochs": 2, "limit_val_batches": 1 if values else 0}
    trainer = tiny.trainer(tmp_path, [best, LastCheckpoint(folder, 100)], **options)
    trainer.fit(module, datamodule=tiny.TinyData(tmp_path))
    assert finish(folder, release_detector, best) is not None
    assert torch.load(folder / "best.ckpt", weights_only=True)["global_step"] == best_step
    warnings = [r.getMessage() for r in caplog.records if r.name == "igcv3det.engine.checkpoints"]
    assert [text.partition(":")[0] for text in warnings] == ([warning] if warning else [])


def test_run_that_saved_nothing(tmp_path):
    assert finish(tmp_path, release_detector) is None
