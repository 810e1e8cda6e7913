"""Packing of images, and the training command on a CPU."""

import json
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from igcv3det.checkpoint import load_detector
from research import gpu_distillation
from research.gpu_distillation import SIDE, main


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for number in range(6):
        pixels = generator.integers(0, 256, (40, 60, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((400, 300)).save(folder / f"{number}.jpg")
    return folder


def pack(photos, tmp_path, limit):
    call = ["pack", photos, "--output", tmp_path / "p.zip", "--cache", tmp_path / "cache"]
    return main([str(word) for word in [*call, "--limit-mib", limit]])


def test_images_are_packed_in_the_best_quality_that_fits(photos, tmp_path, capsys):
    assert pack(photos, tmp_path, 64) == 0
    assert "6 images, WebP quality 90" in capsys.readouterr().out
    best = (tmp_path / "p.zip").stat().st_size
    with zipfile.ZipFile(tmp_path / "p.zip") as archive:
        assert len(archive.namelist()) == 6
        with archive.open("000000.webp") as file:
            assert Image.open(file).size == (SIDE, SIDE)
    limit = 0.6 * best
    assert pack(photos, tmp_path, limit / 2**20) == 0
    assert (tmp_path / "p.zip").stat().st_size <= limit
    assert "quality 90" not in capsys.readouterr().out


def test_a_limit_that_no_quality_keeps(photos, tmp_path, capsys):
    assert pack(photos, tmp_path, 0.001) == 1
    assert "6 images need more than 1048 bytes in quality 40" in capsys.readouterr().err
    assert not (tmp_path / "p.zip").exists()


def test_a_file_that_is_no_zip(tmp_path, capsys):
    (tmp_path / "p.zip").write_bytes(b"nothing")
    assert main(["train", str(tmp_path / "p.zip"), "--output", str(tmp_path / "run")]) == 1
    assert "p.zip: File is not a zip file" in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_nothing_is_trained_unasked(photos, tmp_path, capsys):
    assert pack(photos, tmp_path, 64) == 0
    assert main(["train", str(tmp_path / "p.zip"), "--output", str(tmp_path / "run")]) == 1
    assert "finds no GPU" in capsys.readouterr().err


COMPRESSED = ["--config", "configs/distill/compressed.yaml", "--weights", "searched-90"]


# not so: the position in the epoch follows from the step
@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch")
@pytest.mark.slow
@pytest.mark.parametrize(
    ("own", "last_channels"),
    [([], 1280), ([*COMPRESSED, "--set", "model.optim.lr=1e-4"], 960)],
    ids=["igcv3-d", "compressed"],
)
def test_a_rehearsal_on_the_cpu(photos, tmp_path, capsys, monkeypatch, own, last_channels):
    monkeypatch.setattr(gpu_distillation, "require_gpu", lambda: None)
    monkeypatch.setattr(gpu_distillation, "WARM_UP", 1)
    monkeypatch.setattr(gpu_distillation, "TIMED", 1)
    assert pack(photos, tmp_path, 64) == 0
    output = tmp_path / "run"
    call = ["train", tmp_path / "p.zip", "--output", output, "--batch-size", 2, "--held-out", 2]
    call = [str(word) for word in [*call, *own]]
    assert main([*call, "--minutes", "0.1"]) == 1  # less than what is kept in reserve
    assert "--minutes 0.1: too short" in capsys.readouterr().err
    with monkeypatch.context() as patch:  # each call has the time for one step
        patch.setattr(gpu_distillation, "LEAST_S", 0.0)
        for number in (1, 2):
            assert main([*call, "--steps", "3", "--minutes", "0.001"]) == 1
            assert f"{number} of 3 steps" in capsys.readouterr().out
    assert main(call) == 0
    assert "3 of 3 steps" in capsys.readouterr().out
    assert json.loads((output / "plan.json").read_text())["steps"] == 3
    config = load_detector(output / "student.safetensors").config
    assert (config.backbone.last_channels or 1280) == last_channels
    assert main(call) == 0  # is done
