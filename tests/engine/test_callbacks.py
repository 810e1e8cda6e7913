import dataclasses

import pytest
import tiny
import torch
from pytorch_lightning import Callback
from pytorch_lightning.callbacks import TQDMProgressBar
from pytorch_lightning.loggers import CSVLogger

from igcv3det.engine import callbacks
from igcv3det.engine.callbacks import (
    FiniteLossGuard,
    NonFiniteLossError,
    ProgressLine,
    RepeatableSteps,
    ReportLines,
    StopAtStep,
)
from igcv3det.engine.checkpoints import LastCheckpoint
from igcv3det.io.images import read_image
from igcv3det.tasks.detect.callbacks import PredictionImages, target_image_ids


def test_guard_names_the_images_and_spares_weights_and_checkpoint(tmp_path):
    module = tiny.module()
    data = tiny.TinyData(tmp_path, corrupt=5)  # in the third batch of two
    saver = LastCheckpoint(tmp_path / "checkpoints", every_n_steps=1)
    trainer = tiny.trainer(
        tmp_path, [FiniteLossGuard(target_image_ids), saver], limit_val_batches=0
    )
    with pytest.raises(NonFiniteLossError, match=r"step 2 .*classification nan.*\[104, 105\]"):
        trainer.fit(module, datamodule=data)
    assert all(parameter.isfinite().all() for parameter in module.parameters())
    assert torch.load(saver.path, weights_only=True)["global_step"] == 2


def test_guard_lets_finite_losses_pass(tmp_path):
    trainer = tiny.trainer(tmp_path, [FiniteLossGuard(target_image_ids)], limit_val_batches=0)
    trainer.fit(tiny.module(), datamodule=tiny.TinyData(tmp_path))
    assert trainer.global_step == 4


def test_the_progress_bar_shows_no_part_of_a_loggers_name(tmp_path):
    trainer = tiny.trainer(tmp_path, logger=CSVLogger(tmp_path, name="", version="dashboard"))
    module = tiny.module()
    assert TQDMProgressBar().get_metrics(trainer, module)["v_num"] == "oard"  # Lightning's own
    assert "v_num" not in ProgressLine().get_metrics(trainer, module)


def test_the_time_left_is_that_of_the_whole_run(tmp_path, monkeypatch):
    """Two epochs of four steps, each of 100 seconds."""
    clock = iter(range(0, 10**6, 100))
    monkeypatch.setattr(callbacks.time, "monotonic", lambda: float(next(clock)))
    seen = []

    class Line(ProgressLine):
        def on_train_batch_end(self, trainer, pl_module, *rest):
            seen.append(self.get_metrics(trainer, pl_module)["left"])

    trainer = tiny.trainer(
        tmp_path, [Line()], max_epochs=2, limit_val_batches=0, enable_progress_bar=True
    )
    trainer.fit(tiny.module(), datamodule=tiny.TinyData(tmp_path))
    assert seen[0] == "0:11:40"  # 700 seconds
    assert seen[-1] == "0:00:00"
    assert len(seen) == 8


class Draws(Callback):
    """What each step would draw."""

    def __init__(self):
        self.values = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.values.append(torch.rand(()).item())


def draws(folder, seed, noise):
    torch.manual_seed(noise)
    module = tiny.module()
    seen = Draws()
    callbacks = [RepeatableSteps(seed), seen]
    trainer = tiny.trainer(folder, callbacks, max_epochs=2, limit_val_batches=0)
    trainer.fit(module, datamodule=tiny.TinyData(folder))
    return seen.values


def test_draws_depend_on_seed_and_step_alone(tmp_path):
    values = draws(tmp_path, seed=3, noise=0)
    assert len(set(values)) == 8
    assert draws(tmp_path, seed=3, noise=1) == values
    assert not set(draws(tmp_path, seed=4, noise=0)) & set(values)


@pytest.mark.parametrize(("max_steps", "validated_at"), [(2, [2]), (4, [4]), (6, [4, 6])])
def test_last_weights_are_validated_once(tmp_path, max_steps, validated_at):
    class Validated(Callback):
        steps = ()

        def on_validation_end(self, trainer, pl_module):
            self.steps += (trainer.global_step,)

    seen = Validated()
    trainer = tiny.trainer(
        tmp_path, [StopAtStep(max_steps), seen], max_epochs=5, limit_val_batches=1
    )
    trainer.fit(tiny.module(), datamodule=tiny.TinyData(tmp_path))
    assert list(seen.steps) == validated_at
    assert trainer.global_step == max_steps


def test_report_is_one_line_a_validation(tmp_path, caplog):
    with caplog.at_level("INFO", logger="igcv3det.engine.callbacks"):
        trainer = tiny.trainer(
            tmp_path, [ReportLines(["val/AP"])], max_epochs=2, num_sanity_val_steps=2
        )
        trainer.fit(tiny.module(), datamodule=tiny.TinyData(tmp_path))
    lines = [r.getMessage() for r in caplog.records if r.name == "igcv3det.engine.callbacks"]
    assert len(lines) == 2
    assert lines[1].startswith("epoch 1, step 8: val/AP 0.")


def test_images_show_truth_beside_predictions(tmp_path):
    folder = tmp_path / "images"
    post = dataclasses.replace(tiny.DETECTOR.postprocess, score_threshold=0.0)
    module = tiny.module(detector=dataclasses.replace(tiny.DETECTOR, postprocess=post))
    callback = PredictionImages(folder, images=3, threshold=0.0)
    trainer = tiny.trainer(tmp_path, [callback], max_epochs=2, num_sanity_val_steps=1)
    trainer.fit(module, datamodule=tiny.TinyData(tmp_path))
    names = [str(path.relative_to(folder)) for path in sorted(folder.rglob("*.png"))]
    assert names == [f"epoch-000{e}/{i}.png" for e in (0, 1) for i in (100, 101, 102)]
    image = read_image(folder / names[0])
    assert image.shape[0] == tiny.SIZE
    assert image.shape[1] >= 2 * tiny.SIZE


def test_no_images_wanted(tmp_path):
    trainer = tiny.trainer(tmp_path, [PredictionImages(tmp_path / "p", images=0)])
    trainer.fit(tiny.module(), datamodule=tiny.TinyData(tmp_path))
    assert not (tmp_path / "p").exists()
