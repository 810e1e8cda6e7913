"""Evaluating, predicting and exporting with a segmenter as a user does; files of another kind."""

import json
import shutil

import numpy as np
import pytest
import torch
from mask_folders import VOID, draw_image, write_masks
from PIL import Image
from tiny_segmentation import SEGMENTER

from igcv3det import DetectorConfig, build_detector
from igcv3det.checkpoint import load_detector, save_detector
from igcv3det.cli import compare, export, predict
from igcv3det.cli import eval as eval_command
from igcv3det.config import config_from_dict
from igcv3det.description import DESCRIPTION
from igcv3det.io.images import read_image
from igcv3det.predictor import Predictor
from igcv3det.tasks.classify.checkpoint import load_classifier
from igcv3det.tasks.segment.checkpoint import (
    describe_segmenter,
    is_segmenter,
    load_segmenter,
    save_segmenter,
)
from igcv3det.tasks.segment.config import SegmenterConfig
from igcv3det.tasks.segment.exported import load_exported_segmenter
from igcv3det.tasks.segment.masks import ClassLabels, read_mask
from igcv3det.tasks.segment.network import Segmenter
from igcv3det.tasks.segment.parity import LIMITS, segmenter_disagreements
from igcv3det.tasks.segment.predictor import SegmentationPredictor, best_classes

CLASSES = ClassLabels((0, 1, 2), (VOID,), ("floor", "box", "ground"))
CONFIG = config_from_dict(SegmenterConfig, {**SEGMENTER, "num_classes": 3})


class ByColour(torch.nn.Module):
    """Gives every pixel the class of its brightest channel: perfect on the masks of the tests."""

    config = CONFIG

    def coarse_logits(self, images):
        return torch.stack([images[:, 1], images[:, 0], images[:, 2]], dim=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_masks(tmp_path_factory.mktemp("data") / "set", {"train": 1, "val": 3})


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("model") / "seg.safetensors"
    save_segmenter(Segmenter(CONFIG, CLASSES.names), CLASSES, path)
    return path


@pytest.fixture
def perfect(monkeypatch):
    def load(model, device="cpu"):
        return SegmentationPredictor(ByColour(), CLASSES, device)

    monkeypatch.setattr(SegmentationPredictor, "load", load)


def one_line(capsys, command):
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith(f"{command}: ")]
    return line


def test_eval_of_a_network_that_is_right(perfect, model, folder, tmp_path, capsys):
    output = tmp_path / "m.json"
    words = ["--checkpoint", str(model), "--data", str(folder), "--output", str(output)]
    assert eval_command.main([*words, "--batch-size", "2"]) == 0
    found = json.loads(output.read_text())
    assert found["mIoU"] > 0.8  # the input is twice as large: edges are interpolated
    assert list(found["per_class"]) == list(CLASSES.names)
    assert found["images"] == 3
    truth = [read_mask(path) for path in sorted((folder / "val_labels").iterdir())]
    counts = np.bincount(np.concatenate([mask.ravel() for mask in truth]), minlength=3)
    assert list(found["pixels"].values()) == counts[:3].tolist()
    assert "mIoU" in capsys.readouterr().out
    assert eval_command.main([*words, "--limit", "2"]) == 0
    assert "PARTIAL: only the first 2 of 3 images" in capsys.readouterr().out
    assert json.loads(output.read_text())["partial"]


@pytest.mark.parametrize("command", ["eval", "compare"])
def test_labels_are_matched_by_the_names_of_the_classes(
    perfect, model, folder, tmp_path, command, capsys
):
    run = {"eval": _miou, "compare": _compared_miou}[command]
    expected = run(model, folder, tmp_path)
    other = tmp_path / "set"
    shutil.copytree(folder, other)
    for path in other.glob("*_labels/*"):  # 1 and 2 change places
        mask = read_mask(path)
        changed = np.where((mask == 1) | (mask == 2), 3 - mask, mask)
        Image.fromarray(changed.astype(np.uint8)).save(path)
    names = other / "classes.txt"
    names.write_text("floor\nbox\nground\n")
    assert run(model, other, tmp_path) < expected - 0.2
    names.write_text("floor\nground\nBox\n")
    assert run(model, other, tmp_path) == pytest.approx(expected)
    names.write_text("floor\nground\nchest\n")
    assert run(model, other, tmp_path) is None
    assert "classes.txt: does not name the class 'box'" in capsys.readouterr().err


def _miou(model, folder, tmp_path):
    words = ["--checkpoint", str(model), "--data", str(folder), "--ignore", str(VOID)]
    output = tmp_path / "m.json"
    output.unlink(missing_ok=True)
    status = eval_command.main([*words, "--output", str(output)])
    assert status == (not output.exists())
    return json.loads(output.read_text())["mIoU"] if output.exists() else None


def _compared_miou(model, folder, tmp_path):
    output = tmp_path / "c.json"
    words = [str(model), "--data", str(folder), "--rounds", "1", "--threads", "1"]
    status = compare.main([*words, "--json", str(output)])
    (row,) = json.loads(output.read_text())
    assert status == (row["mIoU"] is None)
    return row["mIoU"]


def test_a_class_that_is_ignored_does_not_count(perfect, model, folder, tmp_path, capsys):
    output = tmp_path / "m.json"
    words = ["--checkpoint", str(model), "--data", str(folder), "--output", str(output)]
    assert eval_command.main([*words, "--ignore", f"1,{VOID}"]) == 0
    found = json.loads(output.read_text())
    assert found["per_class"]["box"] is None
    others = [found["per_class"][name] for name in ("floor", "ground")]
    assert found["mIoU"] == pytest.approx(sum(others) / 2)
    with pytest.raises(SystemExit):
        eval_command.main([*words, "--ignore", "300"])
    assert "argument --ignore: must be labels in 0..255, got '300'" in capsys.readouterr().err


def test_drawings_and_masks_of_one_folder_are_a_wrong_call(folder, tmp_path, capsys):
    words = [str(folder / "val"), "--output", str(tmp_path / "out"), "--masks"]
    with pytest.raises(SystemExit):
        predict.main([*words, str(tmp_path / "new" / ".." / "out")])
    assert "argument --masks: is the folder of --output" in capsys.readouterr().err


def test_eval_names_files_that_cannot_be_used(perfect, model, tmp_path, capsys):
    folder = write_masks(tmp_path / "set", {"val": 3})
    (folder / "val_labels" / "1.png").write_bytes(b"")
    words = ["--checkpoint", str(model), "--data", str(folder)]
    assert eval_command.main(words) == 1
    assert "1.png: the file is empty" in one_line(capsys, "eval")
    assert eval_command.main([*words, "--split", "test"]) == 1
    assert "has no split 'test'; its splits: val" in one_line(capsys, "eval")
    (folder / "val_labels" / "1.png").unlink()
    assert eval_command.main(words) == 1
    assert "val/1.png: has no mask" in one_line(capsys, "eval")


def test_labels_that_the_checkpoint_does_not_ignore(perfect, model, folder, capsys):
    words = ["--checkpoint", str(model), "--data", str(folder), "--ignore", "3"]
    assert eval_command.main([*words, "--limit", "1"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert any("0.png: label 9 at row 0, column 0" in line for line in lines)
    assert any("no pixel of a class" in line for line in lines)


def test_predict_writes_overlays_masks_and_shares(perfect, model, folder, tmp_path, capsys):
    drawn, masks, records = tmp_path / "drawn", tmp_path / "masks", tmp_path / "out.json"
    words = [str(folder / "val"), "--checkpoint", str(model), "--output", str(drawn)]
    assert predict.main([*words, "--masks", str(masks), "--json", str(records)]) == 0
    assert sorted(p.name for p in masks.iterdir()) == ["0.png", "1.png", "2.png"]
    found = json.loads(records.read_text())
    for index, record in enumerate(found):
        mask = read_mask(masks / f"{index}.png")
        truth = read_mask(folder / "val_labels" / f"{index}.png")
        assert mask.shape == truth.shape
        assert (mask == truth)[truth != VOID].mean() > 0.9
        shares = {item["label"]: item["share"] for item in record["classes"]}
        assert sum(shares.values()) == pytest.approx(1, abs=1e-5)
        assert shares["box"] == pytest.approx((mask == 1).mean(), abs=1e-5)
        assert read_image(drawn / f"{index}.png").shape == (24, 32, 3)
    assert "images: 3; results in" in capsys.readouterr().out


def test_masks_have_the_labels_of_the_data(tmp_path):
    classes = ClassLabels((1, 5, 7), (0,), CLASSES.names)
    predictor = SegmentationPredictor(ByColour(), classes)
    mask = np.array([[0, 1], [2, 2]], np.uint8).repeat(20, 0).repeat(20, 1)
    found = predictor(draw_image(mask))
    assert set(np.unique(found.labels)) == {1, 5, 7}
    assert list(found.shares) == ["ground", "floor", "box"]


def test_best_classes_are_those_of_all_logits_at_once():
    logits = torch.randn(5, 6, 7)
    whole = torch.nn.functional.interpolate(logits[None], (31, 40), mode="bilinear")[0].argmax(0)
    assert np.array_equal(best_classes(logits, (31, 40)), whole.numpy())


def test_deployed_segmenters_compute_the_same(model, folder):
    segmenter, classes = load_segmenter(model)
    image = read_image(folder / "val" / "0.png")
    plain = SegmentationPredictor(segmenter, classes)
    loaded = SegmentationPredictor.load(model)
    inputs = plain.preprocess(image)[None]
    with torch.no_grad():
        expected, found = (own.network.coarse_logits(inputs) for own in (plain, loaded))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("suffix", [".onnx", pytest.param(".xml", marks=pytest.mark.slow)])
def test_export_with_its_parity_report(model, folder, tmp_path, capsys, suffix):
    for package in ("onnx", "onnxscript", "onnxruntime" if suffix == ".onnx" else "openvino"):
        pytest.importorskip(package)
    target = tmp_path / f"seg{suffix}"
    words = ["--checkpoint", str(model), "--output", str(target), "--parity", str(folder / "val")]
    assert export.main(words) == 0
    found = json.loads((tmp_path / f"seg{suffix}.parity.json").read_text())
    assert found["agreement"] >= 0.999
    assert found["logits"]["largest"] < 1e-3
    assert found["images"]["number"] == 3
    assert is_segmenter(target)
    ours, theirs = (SegmentationPredictor.load(path) for path in (model, target))
    image = folder / "val" / "1.png"
    assert (ours(image).mask == theirs(image).mask).mean() > 0.999
    with pytest.raises(ValueError, match="holds a segmenter, and a detector is needed here"):
        Predictor.load(target)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp16", "int8"])
@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
def test_export_in_other_precisions(model, folder, tmp_path, capsys, suffix, precision):
    for package in ("onnx", "onnxscript", "onnxruntime" if suffix == ".onnx" else "openvino"):
        pytest.importorskip(package)
    if (suffix, precision) == (".xml", "int8"):
        pytest.importorskip("nncf")
    target = tmp_path / f"seg{suffix}"
    words = ["--checkpoint", str(model), "--output", str(target), "--precision", precision]
    words += ["--data", str(folder), "--parity", str(folder / "val")]
    calibration = ["--calibration", str(folder / "val")] if precision == "int8" else []
    export.main([*words, *calibration])
    found = json.loads((tmp_path / f"seg{suffix}.parity.json").read_text())
    assert found["precision"] == precision
    assert 0 < found["logits"]["largest"] < 1
    assert found["mIoU"]["images"] == 3
    assert found["mIoU"]["loss"] == pytest.approx(0, abs=0.1)  # of random weights
    assert "mIoU on 3 images: PyTorch" in capsys.readouterr().out
    assert load_exported_segmenter(target).precision == precision


def test_what_makes_a_file_disagree():
    found = {"agreement": 0.9, "logits": {"p95": 2.0, "largest": 3.0}, "mIoU": {"loss": 0.02}}
    assert segmenter_disagreements(found, LIMITS["int8"]) == [
        "0.9000 of the pixels get the same class, limit 0.95",
        "logits differ too much: 95th percentile 2.0000, limit 1.0",
        "mIoU is 0.0200 lower, limit 0.01",
    ]
    found = {"agreement": 0.96, "logits": {"p95": 0.4, "largest": 0.5}}
    assert segmenter_disagreements(found, LIMITS["int8"]) == []
    assert len(segmenter_disagreements(found, LIMITS["fp16"])) == 2
    # a network that is hardly trained has many pixels whose classes are as close as rounding
    found = {"agreement": 0.96, "logits": {"p95": 1e-5, "largest": 1e-4}}
    assert segmenter_disagreements(found, LIMITS["fp32"]) == []


@pytest.mark.parametrize(
    ("command", "words", "message"),
    [
        (predict, ["--csv", "x.csv"], "--csv: for detectors"),
        (predict, ["--tile", "64"], "--tile: for detectors"),
        (predict, ["--threshold", "0.9"], "--threshold: for detectors"),
        (export, ["--output", "x.onnx", "--nms"], "--nms: segmenters are exported to .onnx"),
        (export, ["--output", "x.tflite"], "--output x.tflite: segmenters are exported to .onnx"),
        (
            eval_command,
            ["--annotations", "x.json", "--images", "x"],
            "--annotations, --images: for",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_options_of_detectors_are_a_wrong_call(model, folder, capsys, command, words, message):
    sources = [str(folder / "val")] if command is predict else []
    words = words if command is not export else [*words, "--parity", str(folder / "val")]
    assert command.main([*sources, "--checkpoint", str(model), *words]) == 2
    assert message in one_line(capsys, command.__name__.rpartition(".")[2])


def test_options_of_segmenters_are_a_wrong_call_with_a_detector(folder, tmp_path, capsys):
    assert predict.main([str(folder / "val"), "--masks", str(tmp_path / "m")]) == 2
    assert "--masks: for segmenters" in one_line(capsys, "predict")
    assert eval_command.main(["--data", str(folder), "--ignore", "3"]) == 2
    assert "--ignore: for segmenters" in one_line(capsys, "eval")
    words = ["--output", str(tmp_path / "x.onnx"), "--data", str(folder)]
    assert export.main([*words, "--parity", str(folder / "val")]) == 2
    assert "--data: for segmenters" in one_line(capsys, "export")


def test_kinds_of_files_are_told_apart(model, tmp_path):
    detector = tmp_path / "det.safetensors"
    save_detector(build_detector(DetectorConfig(num_classes=2, image_size=64)), detector)
    kept = {"state_dict": {}, DESCRIPTION: describe_segmenter(CONFIG, CLASSES)}
    torch.save(kept, tmp_path / "seg.ckpt")
    (tmp_path / "seg.yaml").write_text("model: {segmenter: {num_classes: 3}}")
    assert [is_segmenter(tmp_path / f"seg{end}") for end in (".ckpt", ".yaml")] == [True, True]
    for other in (detector, None, "igcv3-d", tmp_path / "absent.ckpt", "igcv3_shapes.yaml"):
        assert not is_segmenter(other)
    with pytest.raises(ValueError, match=r"seg\.safetensors: holds a segmenter, and a detector"):
        load_detector(model)
    with pytest.raises(ValueError, match=r"seg\.safetensors: holds a segmenter, and a classifier"):
        load_classifier(model)
    with pytest.raises(ValueError, match=r"det\.safetensors: holds a detector, and a segmenter"):
        load_segmenter(detector)
    assert load_segmenter(tmp_path / "seg.yaml")[1].names == ("class 0", "class 1", "class 2")
