import pytest
import tiny
import torch
from pytorch_lightning import Callback

from igcv3det import load_detector
from igcv3det.engine.callbacks import StopAtStep
from igcv3det.engine.checkpoints import (
    AtomicCheckpointIO,
    LastCheckpoint,
    best_checkpoint,
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


class Saved(Callback):
    """After which steps a checkpoint was written."""

    def __init__(self):
        self.steps = []

    def on_save_checkpoint(self, trainer, pl_module, checkpoint):
        self.steps.append(trainer.global_step)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"max_epochs": 2}, [3, 4, 6, 8]),  # every third step, and each epoch of four
        ({"max_epochs": 2, "stop": 5}, [3, 4, 5]),  # and where the run ends
        ({"max_epochs": 2, "accumulate_grad_batches": 2}, [2, 3, 4]),  # two steps an epoch
        ({"fast_dev_run": 2}, []),
    ],
)
def test_when_the_last_checkpoint_is_saved(tmp_path, options, expected):
    saved = Saved()
    max_steps = options.get("stop")
    options = {key: value for key, value in options.items() if key != "stop"}
    callbacks = [saved, LastCheckpoint(tmp_path, every_n_steps=3, max_steps=max_steps)]
    callbacks += [StopAtStep(max_steps)] if max_steps else []
    trainer = tiny.trainer(tmp_path, callbacks, limit_val_batches=0, **options)
    trainer.fit(tiny.module(), datamodule=tiny.TinyData(tmp_path))
    assert saved.steps == expected


def test_best_is_kept_and_released(tmp_path):
    folder = tmp_path / "checkpoints"
    trainer = tiny.trainer(tmp_path, [best_checkpoint(folder), LastCheckpoint(folder, 100)])
    trainer.fit(tiny.module(), datamodule=tiny.TinyData(tmp_path))
    release = finish(folder)
    assert release == folder / "best.safetensors"
    best = load_detector(folder / "best.ckpt").state_dict()
    for name, value in load_detector(release).state_dict().items():
        assert torch.equal(value, best[name])


def test_without_validation_the_last_is_the_best(tmp_path, caplog):
    folder = tmp_path / "checkpoints"
    trainer = tiny.trainer(
        tmp_path, [best_checkpoint(folder), LastCheckpoint(folder, 100)], limit_val_batches=0
    )
    trainer.fit(tiny.module(), datamodule=tiny.TinyData(tmp_path))
    assert finish(folder) is not None
    assert "nothing was validated" in caplog.text
    assert (folder / "best.ckpt").read_bytes() == (folder / "last.ckpt").read_bytes()


def test_run_that_saved_nothing(tmp_path):
    assert finish(tmp_path) is None
