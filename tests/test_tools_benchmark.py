"""tools/benchmark.py as a user runs it; what it measures, not how long that takes."""

import json

import pytest
from coco_files import save_tiny_detector

from igcv3det.measure.targets import PIPELINE
from igcv3det.runtime import ExportSpec
from tools.benchmark import main

KEYS = ["model", "backend", "precision", "median_ms", "p90_ms", "ratio", "peak_mib"]
YAML = """
model:
  detector: {num_classes: 3, image_size: 64, backbone: {name: NAME, width: 0.25}}
"""


@pytest.fixture
def models(tmp_path):
    paths = []
    for name in ("mobilenetv2", "igcv3"):
        path = tmp_path / f"{name}.yaml"
        path.write_text(YAML.replace("NAME", name))
        paths.append(str(path))
    return paths


def run(tmp_path, *args, memory=False):
    path = tmp_path / "figures" / "benchmark.json"
    options = ["--rounds", "2", "--threads", "1", "--json", str(path)]
    status = main([*args, *options, *([] if memory else ["--no-memory"])])
    return status, json.loads(path.read_text()) if path.exists() else None


def test_rows_and_table(models, tmp_path, capsys):
    status, rows = run(tmp_path, *models, "--backend", "torch", "--precision", "fp32,bf16")
    assert status == 0
    assert all(list(row) == KEYS for row in rows)
    assert [(row["model"], row["precision"]) for row in rows] == [
        ("mobilenetv2", "fp32"),
        ("igcv3", "fp32"),
        ("mobilenetv2", "bf16"),
        ("igcv3", "bf16"),
    ]
    for first, second in (rows[:2], rows[2:]):
        assert first["ratio"] == 1.0
        assert second["ratio"] == pytest.approx(second["median_ms"] / first["median_ms"])
    assert all(0 < row["median_ms"] <= row["p90_ms"] for row in rows)
    assert {row["peak_mib"] for row in rows} == {None}
    text = capsys.readouterr().out
    assert "igcv3" in text
    assert "inference, batch 1, each at its own size, 1 threads, 2 rounds, wall clock" in text


@pytest.mark.slow
def test_peak_memory_is_that_of_another_process(models, tmp_path):
    status, rows = run(tmp_path, models[0], "--backend", "torch", memory=True)
    assert status == 0
    assert 50 < rows[0]["peak_mib"] < 4000


def test_training_steps(models, tmp_path):
    args = ("--train", "--batch", "2", "--conv-impl", "reference,fast", "--image-size", "96")
    status, rows = run(tmp_path, *models, *args)
    assert status == 0
    assert all(list(row) == KEYS for row in rows)
    assert [row["backend"] for row in rows] == ["torch reference"] * 2 + ["torch fast"] * 2
    assert rows[0]["ratio"] == rows[2]["ratio"] == 1.0


def test_training_steps_with_frozen_statistics(models, tmp_path):
    args = ("--train", "--batch", "1", "--keep-norm-statistics", "--image-size", "96")
    status, rows = run(tmp_path, models[0], *args)  # a batch of one has no statistics anywhere
    assert status == 0
    assert [row["backend"] for row in rows] == ["torch fast, frozen BN"]


def test_stages_of_the_pipeline(models, tmp_path):
    args = ("--backend", "torch", "--whole-path", "--clock", "cpu")
    status, rows = run(tmp_path, models[0], *args)
    assert status == 0
    assert [row["stage"] for row in rows] == [PIPELINE, "decode", "resize", "network", "NMS"]
    assert all(list(row) == [*KEYS, "stage"] for row in rows)


@pytest.mark.slow
def test_a_checkpoint_in_every_library(tmp_path):
    for package in ("onnx", "onnxscript", "onnxruntime", "openvino"):
        pytest.importorskip(package, reason="needs the extra igcv3det[export]")
    checkpoint = str(save_tiny_detector(tmp_path / "tiny.safetensors"))
    status, rows = run(tmp_path, checkpoint, "--precision", "fp32,bf16", "--batch", "2")
    assert status == 0
    assert [(row["backend"], row["precision"]) for row in rows] == [
        ("torch", "fp32"),
        ("torch", "bf16"),
        ("onnxruntime", "fp32"),
        ("openvino", "fp32"),
        ("openvino", "bf16"),
    ]


def test_an_exported_file_runs_in_its_own_library(models, tmp_path, capsys):
    for package in ("onnx", "onnxruntime"):
        pytest.importorskip(package, reason="needs the extra igcv3det[export]")
    from exported_files import write_stub

    exported = str(write_stub(tmp_path / "stub.onnx"))
    status, rows = run(tmp_path, exported, "--precision", "fp32,bf16")
    assert status == 0
    assert [(r["model"], r["backend"], r["precision"]) for r in rows] == [
        ("stub", "onnxruntime", "fp32")
    ]
    for wrong, complaint in (
        (["--backend", "openvino"], "cannot run by openvino in fp32"),
        (["--train"], "cannot run a training step in fp32"),
        (["--image-size", "64"], "takes 32 px, not 64"),
    ):
        assert main([exported, "--no-memory", "--rounds", "1", *wrong]) == 1
        assert complaint in capsys.readouterr().err


def test_a_file_with_nms_takes_no_batch(tmp_path, capsys):
    for package in ("onnx", "onnxruntime"):
        pytest.importorskip(package, reason="needs the extra igcv3det[export]")
    from exported_files import write_stub

    with_nms = str(write_stub(tmp_path / "nms.onnx", ExportSpec(nms=True)))
    other = str(write_stub(tmp_path / "other.onnx"))
    status, rows = run(tmp_path, with_nms, other, "--batch", "2")
    assert (status, [row["model"] for row in rows]) == (1, ["other"])
    assert "nms.onnx: includes NMS and takes one image at a time" in capsys.readouterr().err


def test_an_ncnn_file_needs_no_backend(tmp_path):
    for package in ("ncnn", "onnx"):
        pytest.importorskip(package, reason="needs the extras igcv3det[ncnn,export]")
    from ncnn_stub import write_stub

    exported = str(write_stub(tmp_path / "stub.param"))
    status, rows = run(tmp_path, exported, "--batch", "2")
    assert status == 0
    assert [(r["model"], r["backend"], r["precision"]) for r in rows] == [("stub", "ncnn", "fp32")]


def test_models_that_cannot_be_read_are_named_and_the_others_timed(models, tmp_path, capsys):
    other = tmp_path / "other.yaml"
    other.write_text("model: 3")
    args = ("none.ckpt", models[0], str(other), "--backend", "torch")
    status, rows = run(tmp_path, *args)
    assert status == 1
    assert [row["model"] for row in rows] == ["mobilenetv2"]
    errors = capsys.readouterr().err.splitlines()
    assert errors == [
        "benchmark: none.ckpt: no such file",
        f"benchmark: {other}: has no model.detector mapping",
    ]
    assert main(["none.ckpt"]) == 1


def test_models_of_one_name_are_told_apart(models, tmp_path):
    (tmp_path / "other").mkdir()
    other = tmp_path / "other" / "igcv3.yaml"
    other.write_text(YAML.replace("NAME", "igcv3"))
    _, rows = run(tmp_path, models[1], str(other), models[1], "--backend", "torch")
    assert [row["model"] for row in rows] == [models[1], str(other)]


@pytest.mark.parametrize(
    "args",
    [[], ["--threads", "0"], ["--backend", "tensorflow"], ["--train", "--whole-path"]],
    ids=str,
)
def test_wrong_calls(args, capsys):
    with pytest.raises(SystemExit) as stop:
        main([*(["a.yaml"] if args else []), *args])
    assert stop.value.code == 2
    assert "usage:" in capsys.readouterr().err
