"""tools/compare.py as a user runs it."""

import json

import pytest
from coco_files import THREE, coco, save_tiny_detector, write_json, write_noise

from igcv3det.checkpoint import load_detector
from igcv3det.cli.compare import DEFAULT_MODELS, main
from igcv3det.evaluation import CocoEvaluator
from igcv3det.measure.complexity import count_parameters
from igcv3det.predictor import Predictor

YAML = """
model:
  detector: {num_classes: 3, image_size: 64, backbone: {name: mobilenetv2, width: 0.25}}
"""


@pytest.fixture
def models(tmp_path):
    (tmp_path / "mobile.yaml").write_text(YAML)
    return [str(save_tiny_detector(tmp_path / "tiny.safetensors")), str(tmp_path / "mobile.yaml")]


def run(tmp_path, *args):
    path = tmp_path / "comparison.json"
    status = main([*args, "--rounds", "2", "--threads", "1", "--json", str(path)])
    return status, json.loads(path.read_text()) if path.exists() else None


def test_rows_and_table(models, tmp_path, capsys):
    status, rows = run(tmp_path, *models)
    assert status == 0
    assert [row["name"] for row in rows] == ["tiny", "mobile"]
    keys = ["name", "parameters", "multiply_adds", "latency_ms", "latency_ratio", "AP"]
    assert all(list(row) == keys for row in rows)
    assert [row["AP"] for row in rows] == [None, None]
    assert rows[0]["parameters"] == count_parameters(load_detector(models[0]))
    assert rows[0]["latency_ratio"] == 1.0
    text = capsys.readouterr().out
    assert "tiny" in text
    assert "mobile" in text


def test_trained_models_get_their_ap(models, tmp_path):
    predictor = Predictor.load(models[0], score_threshold=0.01, detections_per_image=100)
    found = predictor(write_noise(tmp_path / "1.png"))
    x0, y0, x1, y1 = found.boxes[0].tolist()
    truth = coco([1], [(1, found.category_ids[0], (x0, y0, x1 - x0, y1 - y0))])
    path = write_json(tmp_path / "truth.json", truth)
    status, rows = run(tmp_path, *models, "--annotations", str(path), "--images", str(tmp_path))
    assert status == 0
    evaluator = CocoEvaluator(path, THREE)
    evaluator.update([1], [found])
    assert rows[0]["AP"] == evaluator.compute()["AP"] > 0.9
    assert rows[1]["AP"] is None  # random weights


def test_models_of_one_name_are_told_apart(models, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    second = str(save_tiny_detector(other / "tiny.safetensors"))
    _, rows = run(tmp_path, models[0], second, models[0])
    assert [row["name"] for row in rows] == [models[0], second]


def test_a_missing_model_is_named_and_the_others_are_compared(models, tmp_path, capsys):
    status, rows = run(tmp_path, "none.ckpt", models[1])
    assert status == 1
    assert [row["name"] for row in rows] == ["mobile"]
    assert capsys.readouterr().err.splitlines() == ["compare: none.ckpt: no such file"]
    assert main(["none.ckpt"]) == 1


def test_missing_data_is_named(models, tmp_path, capsys):
    status, rows = run(tmp_path, models[0], "--annotations", "no.json", "--images", "x")
    assert (status, rows[0]["AP"]) == (1, None)
    assert capsys.readouterr().err.splitlines() == ["compare: no.json: no such file"]


def test_no_objects_are_one_line_for_all_models(models, tmp_path, capsys):
    annotations = write_json(tmp_path / "none.json", coco([1], []))
    words = ["--annotations", str(annotations), "--images", str(tmp_path)]
    status, rows = run(tmp_path, *models, *words)
    assert (status, [row["AP"] for row in rows]) == (1, [None, None])
    (line,) = capsys.readouterr().err.splitlines()
    assert "none.json: annotations: not a single object in the 1 images" in line


@pytest.mark.parametrize("args", [["--annotations", "a.json"], ["--threads", "0"], ["--nope"]])
def test_wrong_calls(args, capsys):
    with pytest.raises(SystemExit) as stop:
        main(args)
    assert stop.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_the_default_models_are_there():
    assert [load_detector(name).config.backbone.name for name in DEFAULT_MODELS] == [
        *("igcv3", "mobilenetv2")
    ]
