import math
from pathlib import Path

import pytest
import tiny
import torch
from pytorch_lightning import Callback
from pytorch_lightning.callbacks import EarlyStopping

from igcv3det import load_detector, save_detector
from igcv3det.detector import build_detector
from igcv3det.engine.callbacks import PatientStopping, StopAtStep
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
    full = lambda partial, **_: partial.symlink_to("/dev/full")  # noqa: E731
    monkeypatch.setattr(Path, "touch", full)
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
        # not before a validation within the batches of a step
        (
            {"limit_val_batches": 1, "val_check_interval": 3, "accumulate_grad_batches": 2},
            [],
            [2, 3, 4],
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


@pytest.mark.parametrize(
    ("options", "stops", "expected"),
    [
        ({}, [], [3, 6, 8]),  # of epochs of four steps the last
        ({"max_epochs": 3}, [], [3, 6, 9, 12]),
        ({}, [StopAtStep(4)], [3, 4]),
    ],
)
def test_short_epochs_need_no_checkpoint_each(tmp_path, options, stops, expected):
    saved, last = Saved(), LastCheckpoint(tmp_path, every_n_steps=3)
    last.every_epoch = False
    options = {"max_epochs": 2, "limit_val_batches": 0} | options
    trainer = tiny.trainer(tmp_path, [saved, *stops, last], **options)
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


def _scripted(tmp_path, values, callbacks, **options):
    """Trains epochs of four steps, whose validations have these values."""
    module = tiny.module(kind=Values)
    module.values = values
    ckpt_path = options.pop("ckpt_path", None)
    trainer = tiny.trainer(tmp_path, callbacks, **{"limit_val_batches": 1} | options)
    trainer.fit(module, datamodule=tiny.TinyData(tmp_path), ckpt_path=ckpt_path)
    return trainer


def _best_step(folder):
    return torch.load(folder / "best.ckpt", weights_only=True)["global_step"]


@pytest.mark.filterwarnings("ignore:Checkpoint directory")
@pytest.mark.filterwarnings("ignore:The dirpath has changed")
@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch")
@pytest.mark.parametrize("is_moved", [False, True])
def test_a_resumed_run_keeps_the_better_of_its_folder(tmp_path, is_moved):
    folder = tmp_path / "checkpoints"
    # the run stops within its second epoch: the last checkpoint is from before that validation
    callbacks = [BestCheckpoint(folder, "val/AP", "max"), LastCheckpoint(folder, 100)]
    _scripted(tmp_path, (0.2, 0.5), [*callbacks, StopAtStep(6)], max_epochs=3)
    assert _best_step(folder) == 6
    if is_moved:
        folder = folder.rename(tmp_path / "moved")
    best = BestCheckpoint(folder, "val/AP", "max")
    callbacks = [best, LastCheckpoint(folder, 100)]
    last = str(folder / "last.ckpt")
    _scripted(tmp_path, (0, 0.4, 0.45), callbacks, max_epochs=3, ckpt_path=last)
    assert _best_step(folder) == 6
    assert float(best.best_model_score) == 0.5
    assert finish(folder, release_detector, best) is not None
    assert _best_step(folder) == 6


@pytest.mark.parametrize(("steps", "interval"), [(3, 4), (6, 4), (7, 2)])
def test_the_last_weights_of_a_run_of_steps_are_validated(tmp_path, steps, interval):
    folder = tmp_path / "checkpoints"
    callbacks = [BestCheckpoint(folder, "val/AP", "max"), StopAtStep(steps)]
    options = {"max_epochs": 9, "check_val_every_n_epoch": interval}
    trainer = _scripted(tmp_path, [0.1 * n for n in range(1, 10)], callbacks, **options)
    assert trainer.global_step == steps
    assert _best_step(folder) == steps


def test_a_run_stops_after_its_patience_and_not_at_nan(tmp_path):
    values = (0.5, math.nan, 0.6, math.nan, 0.2, 0.9, 0.1, 0.1)
    folder = tmp_path / "checkpoints"
    stop = PatientStopping("val/AP", "max", 2)
    callbacks = [stop, LastCheckpoint(folder, 100)]
    trainer = _scripted(tmp_path, values, callbacks, max_epochs=8)
    assert stop.has_ended
    assert trainer.global_step == 20  # five epochs
    last = str(folder / "last.ckpt")
    for patience, steps in ((2, 20), (3, 32)):
        stop = PatientStopping("val/AP", "max", patience)
        callbacks = [stop, LastCheckpoint(folder, 100)]
        again = _scripted(tmp_path, values, callbacks, max_epochs=8, ckpt_path=last)
        assert again.global_step == steps


def test_run_that_saved_nothing(tmp_path):
    assert finish(tmp_path, release_detector) is None
