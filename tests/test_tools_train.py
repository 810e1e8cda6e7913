import csv
import re
from pathlib import Path

import pytest
import yaml

from igcv3det import (
    BackboneConfig,
    DetectorConfig,
    build_detector,
    load_detector,
    save_detector,
)
from igcv3det.engine import precision
from igcv3det.shapes.dataset import CATEGORIES, write_shapes
from tools.train_det import main

CLASSES = str(len(CATEGORIES))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_shapes(tmp_path_factory.mktemp("shapes"), train=8, val=3, image_size=64)


@pytest.fixture
def call(data, tmp_path):
    """A run of two steps of the smallest detector, with the shipped files."""

    def call(*options):
        return main(
            [
                *("--config", "configs/mobilenetv2_ssdlite320_coco.yaml"),
                *("--config", "configs/debug.yaml"),
                *("--data.root", str(data), "--model.detector.num_classes", CLASSES),
                *("--model.detector.image_size", "64", "--model.detector.backbone.width", "0.1"),
                *("--trainer.default_root_dir", str(tmp_path / "run")),
                *("--trainer.enable_progress_bar", "false", "--trainer.max_steps", "2"),
                *options,
            ]
        )

    return call


def one_line(capsys):
    (line,) = [
        x for x in capsys.readouterr().err.splitlines() if re.match("(igcv3det )?train: ", x)
    ]
    return line


def test_run_folder(call, tmp_path, capsys):
    run = tmp_path / "run"
    assert call() == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(run / "checkpoints/best.safetensors")
    assert {"config.yaml", "metrics.csv", "checkpoints", "images"} == {
        path.name for path in run.iterdir()
    }
    assert {path.name for path in (run / "checkpoints").iterdir()} == {
        "best.ckpt",
        "best.safetensors",
        "last.ckpt",
    }
    assert len(list((run / "images").rglob("*.png"))) == 2
    with (run / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["0", "1"]
    assert float(rows[0]["train/loss"]) > 0
    assert float(rows[1]["val/AP"]) >= 0
    for checkpoint in (run / "checkpoints").iterdir():
        detector = load_detector(checkpoint)
        assert detector.categories.names == tuple(CATEGORIES.values())
        assert detector.config.image_size == 64


def test_saved_configuration_repeats_the_run(call, tmp_path):
    assert call("--seed_everything", "5") == 0
    run = tmp_path / "run"
    again = tmp_path / "again"
    saved = ["--config", str(run / "config.yaml"), "--trainer.default_root_dir", str(again)]
    assert main(saved) == 0
    assert (again / "metrics.csv").read_text() == (run / "metrics.csv").read_text()


@pytest.mark.parametrize(("bfloat16", "expected"), [(False, "32-true"), (True, "bf16-mixed")])
def test_precision_is_said_and_recorded(call, tmp_path, monkeypatch, caplog, bfloat16, expected):
    monkeypatch.setattr(precision, "processor_computes_bfloat16", lambda: bfloat16)
    assert call("--trainer.precision", "bf16-mixed", "--trainer.accelerator", "cpu") == 0
    recorded = yaml.safe_load((tmp_path / "run/config.yaml").read_text())
    assert recorded["trainer"]["precision"] == expected
    said = [line for line in caplog.messages if "no bfloat16" in line]
    assert said == (
        []
        if bfloat16
        else ["trainer.precision bf16-mixed: this processor has no bfloat16, so 32-true is used"]
    )


def test_earlier_run_is_left_alone(call, tmp_path, capsys):
    assert call() == 0
    before = (tmp_path / "run/checkpoints/last.ckpt").read_bytes()
    assert call("--seed_everything", "1") == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith(str(tmp_path / "run-2"))
    assert (tmp_path / "run/checkpoints/last.ckpt").read_bytes() == before


def test_fine_tuning_on_other_classes(call, tmp_path):
    detector = DetectorConfig(
        num_classes=3, image_size=64, backbone=BackboneConfig(name="mobilenetv2", width=0.1)
    )
    save_detector(build_detector(detector), tmp_path / "other.safetensors")
    assert call("--model.weights", str(tmp_path / "other.safetensors")) == 0


def test_tensorboard(call, tmp_path):
    pytest.importorskip("tensorboard")
    assert call("--tensorboard", "true") == 0
    assert list((tmp_path / "run/tensorboard").glob("events.*"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model.optim.speed", "1"], "model.optim.speed"),
        (["--model.optim.lr", "fast"], "model.optim.lr"),
        (["--model.optim.lr", "-1"], "optim.lr must be > 0, got -1"),
        (["--model.detector.backbone.name", "vgg"], "vgg"),
    ],
)
def test_wrong_call(call, capsys, options, message):
    assert call(*options) == 2
    assert message in one_line(capsys)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model.detector.num_classes", "3"], f"--model.detector.num_classes {CLASSES}"),
        (["--config", "absent.yaml"], "absent.yaml"),
        (["--data.root", "/absent"], "/absent"),
        (["--ckpt_path", "absent.ckpt"], "absent.ckpt"),
        (["--model.weights", "absent.safetensors"], "absent.safetensors"),
        (["--trainer.max_steps", "-1", "--trainer.max_epochs", "null"], "how long"),
    ],
)
def test_what_cannot_be(call, capsys, options, message):
    assert call(*options) == 1
    assert message in one_line(capsys)


def test_diverged_run_names_the_images(call, capsys):
    assert call("--model.optim.lr", "1e38", "--trainer.gradient_clip_val", "null") == 1
    line = one_line(capsys)
    assert "not finite" in line
    assert "image ids of the batch: [" in line


@pytest.mark.parametrize("path", sorted(Path("configs").glob("*ssdlite*.yaml")), ids=str)
def test_shipped_configurations_parse(path, capsys):
    assert main(["--config", str(path), "--config", "configs/debug.yaml", "--print_config"]) == 0
    assert "default_root_dir: runs/debug" in capsys.readouterr().out


def test_help(capsys):
    assert main(["--help"]) == 0
    assert "--ckpt_path" in capsys.readouterr().out
