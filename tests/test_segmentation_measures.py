"""`igcv3det compare` and `igcv3det benchmark` with segmenters, as a user runs them."""

import json

import PIL.Image
import pytest
import torch
from coco_files import save_tiny_detector
from mask_folders import VOID, write_masks
from tiny_segmentation import SEGMENTER

from igcv3det.cli import benchmark, compare, compress
from igcv3det.config import config_from_dict
from igcv3det.tasks.segment.checkpoint import save_segmenter
from igcv3det.tasks.segment.config import SegmenterConfig
from igcv3det.tasks.segment.exported import export_segmenter
from igcv3det.tasks.segment.masks import ClassLabels
from igcv3det.tasks.segment.network import Segmenter

CLASSES = ClassLabels((0, 1, 2), (VOID,), ("floor", "box", "ground"))


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Two segmenters of random weights, the second with another head."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    for name, head in (("a", "lraspp"), ("b", "deeplab")):
        config = config_from_dict(SegmenterConfig, {**SEGMENTER, "num_classes": 3, "head": head})
        save_segmenter(Segmenter(config, CLASSES.names), CLASSES, folder / f"{name}.safetensors")
    return [str(folder / "a.safetensors"), str(folder / "b.safetensors")]


def test_compare(models, tmp_path, capsys):
    data = write_masks(tmp_path / "set", {"train": 1, "val": 2})
    file = tmp_path / "rows.json"
    words = ["--rounds", "2", "--threads", "1", "--data", str(data), "--json", str(file)]
    assert compare.main([*models, *words]) == 0
    rows = json.loads(file.read_text())
    keys = ["name", "parameters", "multiply_adds", "latency_ms", "latency_ratio", "mIoU"]
    assert all(list(row) == keys for row in rows)
    assert [row["name"] for row in rows] == ["a", "b"]
    assert rows[0]["latency_ratio"] == 1
    assert rows[0]["parameters"] != rows[1]["parameters"]
    assert all(0 <= row["mIoU"] < 1 for row in rows)
    assert "48 x 32 px, 1 threads" in capsys.readouterr().out


def test_benchmark(models, tmp_path, capsys):
    file = tmp_path / "rows.json"
    words = ["--backend", "torch", "--precision", "fp32,bf16", "--rounds", "2", "--no-memory"]
    assert benchmark.main([*models, *words, "--json", str(file)]) == 0
    rows = json.loads(file.read_text())
    found = [(row["model"], row["precision"]) for row in rows]
    assert found == [("a", "fp32"), ("b", "fp32"), ("a", "bf16"), ("b", "bf16")]
    assert all(row["median_ms"] > 0 and row["peak_mib"] is None for row in rows)


@pytest.mark.slow
def test_benchmark_of_exported_files(models, tmp_path):
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    config = config_from_dict(SegmenterConfig, {**SEGMENTER, "num_classes": 3})
    exported = tmp_path / "c.onnx"
    export_segmenter(Segmenter(config, CLASSES.names), CLASSES, exported)
    file = tmp_path / "rows.json"
    words = ["--backend", "torch,onnxruntime", "--precision", "fp32,int8", "--rounds", "2"]
    assert benchmark.main([models[0], str(exported), *words, "--json", str(file)]) == 0
    rows = json.loads(file.read_text())
    found = [(row["model"], row["backend"], row["precision"]) for row in rows]
    assert found[:2] == [("a", "torch", "fp32"), ("a", "onnxruntime", "fp32")]
    assert ("c", "onnxruntime", "fp32") in found
    assert ("a", "onnxruntime", "int8") in found
    assert all(row["peak_mib"] > 50 for row in rows)


@pytest.mark.parametrize(
    ("command", "words", "status", "message"),
    [
        (compare, ["--annotations", "x", "--images", "x"], 2, "--annotations, --images: for"),
        (compare, ["--data", "absent"], 1, "absent: no such folder"),
        (benchmark, ["--train"], 2, "--train: for detectors"),
        (benchmark, ["--whole-path"], 2, "--whole-path: for detectors"),
        (benchmark, ["--image-size", "64"], 2, "--image-size: for detectors"),
        (benchmark, ["--backend", "ncnn"], 1, "cannot run by ncnn in fp32"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_calls(models, capsys, command, words, status, message):
    assert command.main([models[0], *words, "--rounds", "1"]) == status
    assert message in capsys.readouterr().err


def test_compress_times_segmenters_where_they_can_be_exported_to(models, tmp_path, capsys):
    pytest.importorskip("scipy")
    output = tmp_path / "out"
    PIL.Image.new("RGB", (8, 8)).save(tmp_path / "image.png")
    words = ["--images", str(tmp_path), "--output", str(output), "--backend", "ncnn"]
    assert compress.main(["--checkpoint", models[0], *words]) == 1
    message = "a.safetensors: a segmenter runs in torch, onnxruntime, openvino, not in ncnn"
    assert message in capsys.readouterr().err
    assert not output.exists()


@pytest.mark.parametrize("command", [compare, benchmark])
def test_kinds_are_not_mixed(models, tmp_path, capsys, command):
    detector = str(save_tiny_detector(tmp_path / "det.safetensors"))
    assert command.main([detector, models[0]]) == 1
    assert "a.safetensors is a segmenter and" in capsys.readouterr().err
