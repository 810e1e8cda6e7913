"""Distillation by two processes on one CPU: what one does with batches twice as large."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from distillation_networks import HEAD, SMALL
from distillation_runs import DISTILLATIONS, run, run_as_one_of_two, write_inputs
from processes import run_processes
from torch.testing import assert_close

ROOT = Path(__file__).parents[3]


@pytest.fixture
def folder(tmp_path):
    write_inputs(tmp_path, images=12)
    settings = {
        "model": {
            "teacher": str(tmp_path / "teacher.safetensors"),
            "detector": {
                "num_classes": 3,
                "image_size": 64,
                "padding": "same",
                "backbone": {k: list(v) if isinstance(v, tuple) else v for k, v in SMALL.items()},
                "head": {"extra_channels": list(HEAD.extra_channels), "activation": "sigmoid"},
            },
            "distillation": {"start": "shared"},
            "optim": {"lr": 0.001, "lr_batch_size": None, "warmup_steps": 1, "ema_decay": None},
        },
        "data": {
            "folders": [str(tmp_path / "images")],
            "side": 96,
            "cache": str(tmp_path / "cache"),
            "batch_size": 2,
            "held_out": 4,
            "crop": {"size": 64},
        },
        "trainer": {
            "accelerator": "cpu",
            "devices": 2,
            "strategy": "ddp",
            "max_steps": 2,
            "log_every_n_steps": 1,
            "num_sanity_val_steps": 0,
            "enable_progress_bar": False,
        },
    }
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(settings))
    return tmp_path


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """What one process finds, and each of two."""
    folder = tmp_path_factory.mktemp("distillation")
    # seven images for training make three batches of two: one is left out
    write_inputs(folder, images=11)
    expected = run(folder, 1)
    (folder / "two").mkdir()
    run_processes(run_as_one_of_two, folder / "two")
    return expected, *(torch.load(folder / "two" / f"{rank}.pt") for rank in range(2))


@pytest.mark.parametrize("name", DISTILLATIONS)
def test_gradients_and_weights_are_those_of_one_process(runs, name):
    (gradients, weights), (found, found_weights), other = (of_run[name] for of_run in runs)
    assert len(gradients) == (2 if "2 batches" in name else 3)
    assert sum(bool(gradient.any()) for gradient in gradients[0].values()) > 50
    # the map's least squares enlarge rounding in float32
    tolerance = 1e-2 if "mapped" in name else 1e-4
    for step, expected in zip(found, gradients, strict=True):
        assert step.keys() == expected.keys()
        for part, gradient in expected.items():
            atol = tolerance * gradient.abs().max().item()
            assert_close(step[part], gradient, rtol=0, atol=atol, msg=part)
    assert_close(found_weights, weights, rtol=1e-3, atol=1e-5)
    assert_close((found, found_weights), other, rtol=0, atol=0)


def test_validation_is_that_of_one_process(runs):
    expected, *others = (of_run["validation"] for of_run in runs)
    assert expected["val/loss"] > 0
    for found in others:
        assert found == pytest.approx(expected, rel=1e-5)


# both processes write their weights after training
SCRIPT = """
import sys, torch
from igcv3det.tasks.distill.module import DistillationModule
from igcv3det.cli.distill import main

def on_train_end(self):
    torch.save(self.detector.state_dict(), f"{sys.argv.pop()}.{self.global_rank}")

DistillationModule.on_train_end = on_train_end
sys.exit(main(sys.argv[1:-1]))
"""


def _train(folder, name, *options):
    (folder / "train.py").write_text(SCRIPT)
    place = folder / name
    words = ["--config", folder / "tiny.yaml", "--trainer.default_root_dir", place, *options]
    return place, subprocess.run(
        [sys.executable, str(folder / "train.py"), *map(str, words), str(folder / "weights")],
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.slow
def test_two_processes_train_one_student(folder):
    place, done = _train(folder, "two")
    assert done.returncode == 0, done.stderr
    one, other = (torch.load(folder / f"weights.{rank}", weights_only=True) for rank in (0, 1))
    for name, value in one.items():
        if not name.endswith(("running_mean", "running_var")):  # each process has its own
            assert torch.equal(value, other[name]), name
    with (place / "metrics.csv").open(newline="") as file:
        row = list(csv.DictReader(file))[-1]
    assert float(row["val/loss"]) > 0


@pytest.mark.slow
def test_parts_without_a_gradient_are_refused(folder):
    weights = ("--model.distillation.score_weight", "0", "--model.distillation.offset_weight", "0")
    _, done = _train(folder, "unused", *weights)
    assert done.returncode == 1
    assert "extras, head): pass --trainer.strategy ddp_find_unused_parameters_true" in done.stderr
    found = ("--trainer.strategy", "ddp_find_unused_parameters_true")
    assert _train(folder, "found", *weights, *found)[1].returncode == 0
