"""Plots at the end of a training are those of the best validation."""

import csv
import json
import logging
from types import SimpleNamespace

import pytest
import torch
from coco_files import coco, write_json, write_noise

pytest.importorskip("matplotlib")

from igcv3det.engine.checkpoints import BestCheckpoint
from igcv3det.evaluation import CocoEvaluator
from igcv3det.io.images import read_image
from igcv3det.shapes.dataset import write_shapes
from igcv3det.tasks.detect.train import DetectionCLI
from igcv3det.tasks.detect.validation_plots import ValidationPlots


@pytest.fixture
def run(tmp_path):
    """Calls the callback as a trainer does, with detections of known AP."""
    write_noise(tmp_path / "5.png")
    truth = coco([5], [(5, 1, (0, 0, 40, 40)), (5, 1, (90, 0, 40, 40))])
    evaluator = CocoEvaluator(write_json(tmp_path / "truth.json", truth))
    module = SimpleNamespace(evaluator=evaluator)
    splits = SimpleNamespace(val=SimpleNamespace(images=tmp_path))
    best = BestCheckpoint(tmp_path, "val/AP", "max")
    trainer = SimpleNamespace(
        sanity_checking=False,
        callback_metrics={},
        callbacks=[best],
        loggers=[],
        global_step=0,
        datamodule=SimpleNamespace(splits=splits, allow_outside=False),
    )
    callback = ValidationPlots(tmp_path / "run" / "plots", "val/AP")

    def validate(*boxes):
        evaluator.reset()
        evaluator.update_results(
            [
                {"image_id": 5, "category_id": 1, "bbox": list(box), "score": 0.9 - index / 10}
                for index, box in enumerate(boxes)
            ]
        )
        value = evaluator.compute()["AP"]
        trainer.callback_metrics["val/AP"] = torch.tensor(value)
        if best.best_model_score is None or value >= best.best_model_score:
            best.best_model_score = torch.tensor(value)
        callback.on_validation_end(trainer, module)

    return SimpleNamespace(
        validate=validate,
        best=best,
        trainer=trainer,
        end=lambda: callback.on_fit_end(trainer, module),
        folder=callback.folder,
        numbers=lambda: json.loads((callback.folder / "plots.json").read_text()),
    )


def test_the_best_validation_is_drawn(run):
    run.validate((0, 0, 40, 40))
    run.validate((0, 0, 40, 40), (90, 0, 40, 40))
    run.validate()
    run.end()
    assert run.numbers()["all"]["AP50"] == 1
    assert run.numbers()["title"] == "run: best validation"
    assert (run.folder / "report.html").exists()


def test_of_equals_the_last_and_not_the_sanity_check(run):
    run.trainer.sanity_checking = True
    run.validate((0, 0, 40, 40), (90, 0, 40, 40))
    run.best.best_model_score = None
    run.trainer.sanity_checking = False
    run.validate((0, 0, 40, 40))
    run.validate((90, 0, 40, 40))
    run.end()
    assert run.numbers()["all"]["detections"] == 1
    assert run.numbers()["metrics"]["AP50"] == pytest.approx(51 / 101)


def test_a_better_validation_before_the_resume_is_named(run, caplog):
    run.best.best_model_score = torch.tensor(0.9)
    run.validate((0, 0, 40, 40))
    with caplog.at_level(logging.INFO):
        run.end()
    assert "the best validation was before this run was resumed" in caplog.text
    assert not run.folder.exists()


def test_what_cannot_be_drawn_is_a_warning(run, caplog):
    run.validate((0, 0, 40, 40))
    run.folder.parent.write_text("a file in its place")
    run.end()
    assert "no plots: " in caplog.text


def test_nothing_without_validation(run):
    run.end()
    assert not run.folder.exists()


@pytest.mark.slow
def test_a_training_leaves_plots(tmp_path):
    write_shapes(tmp_path / "data", train=4, val=3, image_size=64)
    board = _has_tensorboard()
    DetectionCLI(
        [
            *("--data.root", str(tmp_path / "data"), "--data.batch_size", "2"),
            *("--data.num_workers", "0", "--logged_images", "0", "--plots", "true"),
            *("--model.detector.backbone.name", "mobilenetv2"),
            *("--model.detector.backbone.width", "0.1", "--model.detector.image_size", "64"),
            *("--trainer.default_root_dir", str(tmp_path / "run"), "--trainer.max_epochs", "1"),
            *("--trainer.enable_progress_bar", "false", "--trainer.accelerator", "cpu"),
            *("--tensorboard", str(board).lower()),
        ]
    ).fit()
    run = tmp_path / "run"
    rows = list(csv.DictReader((run / "metrics.csv").read_text().splitlines()))
    (ap,) = [float(row["val/AP50"]) for row in rows if row.get("val/AP50")]
    numbers = json.loads((run / "plots" / "plots.json").read_text())
    assert numbers["all"]["AP50"] == pytest.approx(ap, abs=1e-6)
    assert numbers["images"] == 3
    assert read_image(run / "plots" / "pr_curves.png").ndim == 3
    if board:
        assert {"plots/pr_curves", "plots/confusion_matrix"} <= _image_tags(run / "tensorboard")


def _has_tensorboard():
    try:
        import tensorboard  # noqa: F401
    except ImportError:
        return False
    return True


def _image_tags(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return set(events.Tags()["images"])
