"""`igcv3det compress` of a segmenter, as a user runs it, and what can be done with the result."""

import json

import pytest
import torch
from mask_folders import write_masks
from tasks.compress.networks import MOBILENETV2, randomise_norms
from torch.testing import assert_close

pytest.importorskip("scipy")
from igcv3det.cli.compress import main
from igcv3det.config import config_from_dict, unflatten
from igcv3det.tasks.compress import price
from igcv3det.tasks.compress.segmenter_teacher import SegmenterTeacher
from igcv3det.tasks.segment.checkpoint import load_segmenter, save_segmenter
from igcv3det.tasks.segment.config import SegmenterConfig
from igcv3det.tasks.segment.masks import ClassLabels
from igcv3det.tasks.segment.network import Segmenter
from igcv3det.tasks.segment.start import load_start, starting_fields

CLASSES = ClassLabels((0, 1, 2), (9,), ("field", "box", "floor"))
_ALL = SegmenterTeacher.candidates


def _few(teacher, grouped_stages=()):
    """Some candidates of three positions; the originals of the others."""
    kept = {"stem": 2, "block14": 2, "last": 3}
    found = _ALL(teacher, grouped_stages)
    return {position: own[: kept.get(position, 1)] for position, own in found.items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("compress")
    write_masks(root / "data", {"train": 44})
    torch.manual_seed(0)
    config = SegmenterConfig(
        num_classes=3, image_size=(64, 96), head_channels=16, backbone=MOBILENETV2.backbone
    )
    segmenter = randomise_norms(Segmenter(config, CLASSES.names)).eval()
    save_segmenter(segmenter, CLASSES, root / "model.safetensors")
    return root


@pytest.fixture
def call(folder, monkeypatch):
    monkeypatch.setattr(price, "ROUNDS", 3)
    monkeypatch.setattr(SegmenterTeacher, "candidates", _few)

    def run(*words):
        options = {
            "checkpoint": folder / "model.safetensors",
            "images": folder / "data" / "train",
            "output": folder / "out",
            "steps": 2,
            "finish-steps": 1,
            "workers": 1,
            "threads": 1,
            "backend": "torch",
        }
        return main([*(str(w) for k, v in options.items() for w in (f"--{k}", v)), *words])

    return run


def test_from_a_segmenter_to_the_front(folder, call, capsys):
    assert call("--parameters", "0.9") == 0
    printed = capsys.readouterr().out
    file = folder / "out" / "parameters0.9.safetensors"
    assert f"igcv3det train DATA --task segment --weights {file}" in printed
    report = json.loads((folder / "out" / "report.json").read_text())
    (row,) = report["segmenters"]
    original, _ = load_segmenter(folder / "model.safetensors")
    smaller, classes = load_segmenter(file)
    assert classes == CLASSES
    counts = [sum(p.numel() for p in own.parameters()) for own in (original, smaller)]
    assert counts[1] / counts[0] == pytest.approx(row["predicted"]["parameters"], abs=1e-9)
    assert counts[1] / counts[0] <= 0.9
    assert row["measured_latency"] > 0
    assert smaller.backbone.stem[1].running_mean.abs().max() > 0
    losses = [point["loss"] for point in report["front"]]
    assert losses == sorted(losses, reverse=True)
    assert "of the classes of all cells" in (folder / "out" / "report.md").read_text()
    # a training starts from the whole of it
    config = config_from_dict(
        SegmenterConfig, {**unflatten(starting_fields(file)), "num_classes": 3}
    )
    started = Segmenter(config, CLASSES.names).eval()
    load_start(started, file)
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        assert_close(started(images), smaller(images))
    # other budgets train nothing, and the file that is there is not made again
    before = file.stat().st_mtime_ns
    assert call("--parameters", "0.9", "0.95") == 0
    assert "candidates: 0 to train" in capsys.readouterr().out
    assert file.stat().st_mtime_ns == before


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_prices_come_from_the_backend(folder, call, backend):
    pytest.importorskip(backend)
    output = folder / backend
    words = ["--parameters", "0.9", "--backend", backend, "--output", str(output)]
    assert call(*words) == 0
    report = json.loads((output / "report.json").read_text())
    assert report["original"]["latency"] > 0
    assert report["segmenters"][0]["measured_latency"] > 0
