"""Training a segmenter as a user does: short form, run folder, resume, wrong calls."""

import csv

import pytest
import torch
import yaml
from mask_folders import VOID, write_masks
from tiny_segmentation import SEGMENTER, SETTINGS
from torch.testing import assert_close

from igcv3det.checkpoint import load_detector, save_detector
from igcv3det.cli import train
from igcv3det.config import BackboneConfig, DetectorConfig
from igcv3det.detector import build_detector
from igcv3det.io.images import read_image
from igcv3det.tasks.segment.checkpoint import load_segmenter
from igcv3det.weight_files import read_torch


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_masks(tmp_path_factory.mktemp("data") / "set")


@pytest.fixture
def call(folder, tmp_path):
    config = tmp_path / "tiny.yaml"
    config.write_text(yaml.safe_dump(SETTINGS))

    def call(*options, run="run"):
        words = ["--task", "segment", "--config", str(config), "--data.root", str(folder)]
        return train.main([*words, "--trainer.default_root_dir", str(tmp_path / run), *options])

    return call


def one_line(capsys):
    (line,) = [x for x in capsys.readouterr().err.splitlines() if "train" in x.split(":")[0]]
    return line


def test_run_folder(call, tmp_path, capsys):
    run = tmp_path / "run"
    assert call() == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(run / "checkpoints/best.safetensors")
    names = {path.name for path in run.iterdir()}
    assert names == {"config.yaml", "metrics.csv", "checkpoints", "images"}
    drawn = sorted(str(path.relative_to(run / "images")) for path in run.rglob("*.png"))
    assert drawn == [f"epoch-000{epoch}/000{n}.png" for epoch in (0, 1) for n in range(3)]
    assert read_image(run / "images" / drawn[0]).shape == (24, 2 * 32, 3)
    with (run / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [bool(row["val/mIoU"]) for row in rows] == [False, True] * 2
    for name in ("best.ckpt", "last.ckpt", "best.safetensors"):
        segmenter, classes = load_segmenter(run / "checkpoints" / name)
        assert segmenter.config.image_size == (32, 48)
        assert classes == ((0, 1, 2), (VOID,), ("class 0", "class 1", "class 2"))


def test_a_resumed_run_ends_with_the_weights_of_an_unbroken_one(call, tmp_path):
    """At a constant rate, as the schedule of a run of three steps is another than that of four."""
    constant = ["--model.optim.final_lr", "1"]
    assert call(*constant, run="whole") == 0
    assert call(*constant, "--trainer.max_steps", "3", run="cut") == 0
    last = tmp_path / "cut/checkpoints/last.ckpt"
    assert call(*constant, "--ckpt_path", str(last), "--model.weights", "absent", run="cut") == 0
    found, expected = (
        read_torch(tmp_path / run / "checkpoints/last.ckpt") for run in ("cut", "whole")
    )
    assert found["global_step"] == expected["global_step"] == 4
    for part in ("state_dict", "training_weights"):
        for name, value in expected[part].items():
            assert torch.equal(found[part][name], value), name


def test_deeplab(call, tmp_path):
    assert call("--model.segmenter.head", "deeplab", "--trainer.max_epochs", "1") == 0
    segmenter, _ = load_segmenter(tmp_path / "run/checkpoints/best.safetensors")
    assert segmenter.config.head == "deeplab"
    assert segmenter(torch.zeros(1, 3, 32, 48)).shape == (1, 3, 32, 48)


def test_the_short_form_says_what_it_chose(call, folder, tmp_path, capsys):
    backbone = BackboneConfig(**SEGMENTER["backbone"] | {"repeats": (1,) * 7})
    weights = tmp_path / "detector.safetensors"
    save_detector(build_detector(DetectorConfig(3, 64, backbone=backbone)), weights)
    run = tmp_path / "short"
    short = [str(folder), "--task", "segment", "--weights", str(weights), "--ignore", str(VOID)]
    own = ["--trainer.precision", "32-true", "--data.num_workers", "0", "--trainer.accelerator=cpu"]
    assert train.main([*short, "--epochs", "1", "--output", str(run), *own]) == 0
    lines = capsys.readouterr().out.splitlines()
    chosen = {line.split()[0]: line for line in lines if "  " in line}
    assert {"data", "weights", "image", "batch", "lr", "loss", "length"} <= chosen.keys()
    assert "6 training, 3 val images, 3 classes" in chosen["data"]
    assert "32 x 32 px; the images have 32 x 24 (median)" in chosen["image"]
    segmenter, _ = load_segmenter(run / "checkpoints/best.safetensors")
    assert segmenter.config.backbone == backbone
    assert segmenter.config.mean == (127.5,) * 3


def test_the_backbone_is_that_of_the_weights(tmp_path, call):
    backbone = BackboneConfig(**SEGMENTER["backbone"] | {"repeats": (1,) * 7})
    weights = tmp_path / "detector.safetensors"
    save_detector(build_detector(DetectorConfig(3, 64, padding="same", backbone=backbone)), weights)
    frozen = ["--model.optim.lr", "1e-30", "--model.optim.weight_decay", "0"]
    assert call("--model.weights", str(weights), *frozen, "--trainer.max_epochs", "1") == 0
    segmenter, _ = load_segmenter(tmp_path / "run/checkpoints/best.ckpt")
    assert segmenter.config.padding == "same"
    trained = load_detector(weights).backbone.state_dict()
    for name, value in segmenter.backbone.state_dict().items():
        if "running" not in name and "num_batches" not in name:
            assert_close(value, trained[name], rtol=0, atol=1e-20)


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (["--model.optim.speed", "1"], 2, "model.optim.speed"),
        (["--model.segmenter.output_stride", "8"], 2, "output_stride"),
        (["--data.augment.scale", "[2, 1]"], 2, "augment.scale needs 0 < a <= b"),
        (["--model.segmenter.num_classes", "4"], 1, "num_classes is 4, but the data has 3 classes"),
        (["--data.root", "/absent"], 1, "/absent: no such folder"),
        (["--data.ignore", "[]"], 1, "0.png: label 9, but no training mask has label 3"),
        (["--data.val_split", "holdout"], 1, "has no split 'holdout'; its splits: train, val"),
        (["--data.classes", "absent.txt"], 1, "absent.txt: no such file"),
        (["--model.segmenter.head=deeplab", "--data.batch_size=1"], 1, "a batch of one image has"),
        (["--task", "pose"], 2, "argument --task: 'pose' is none of"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_calls(call, capsys, options, status, message):
    assert call(*options) == status
    assert message in one_line(capsys)


def test_help(capsys):
    assert train.main(["--task", "segment", "--help"]) == 0
    assert "--model.segmenter.output_stride" in capsys.readouterr().out
    assert train.main(["data", "--task", "segment", "--help"]) == 0
    assert "--ignore LABELS" in capsys.readouterr().out
    assert train.main(["--task", "segment"]) == 2
