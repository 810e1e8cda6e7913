"""tools/export.py as called from a shell."""

import json
import shutil
from pathlib import Path

import pytest

for _package in ("onnx", "onnxscript", "onnxruntime", "openvino"):
    pytest.importorskip(_package, reason="needs the extra igcv3det[export]")

from coco_files import coco, write_json  # noqa: E402
from export.networks import TENSORFLOW, lively_detector, write_images  # noqa: E402
from exported_files import write_stub  # noqa: E402

import igcv3det.export  # noqa: E402
from igcv3det.checkpoint import load_detector, save_detector  # noqa: E402
from igcv3det.runtime import load_exported  # noqa: E402
from tools.export import main  # noqa: E402


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_detector(lively_detector(TENSORFLOW), path)
    return str(path)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return str(write_images(tmp_path_factory.mktemp("images")))


def test_a_file_and_its_report(checkpoint, photos, tmp_path, capsys):
    stray = Path(photos) / "._0.png"  # as macOS leaves beside 0.png
    stray.write_bytes(b"\0\5\x16\7")
    output = tmp_path / "new" / "tiny.onnx"
    assert main(["--checkpoint", checkpoint, "--output", str(output), "--parity", photos]) == 0
    stray.unlink()
    assert load_exported(output).spec.precision == "fp32"
    report = json.loads((tmp_path / "new" / "tiny.onnx.parity.json").read_text())
    assert report["disagreements"] == []
    assert report["limits"] == {"score": 0.001, "unmatched": 0.02, "AP": 0.005}
    assert report["images"] == {"number": 4, "confident_score": 0.3, "from": photos}
    assert report["detections"]["matched"] == report["detections"]["confident"] >= 10
    assert report["candidates"]["score"]["largest"] < 1e-4
    printed = capsys.readouterr()
    assert "10 of 10 detections above 0.3 matched, 0 extra" in printed.out
    assert printed.out.rstrip().endswith("tiny.onnx.parity.json")
    (line,) = printed.err.splitlines()
    assert line.startswith("export: left out of the comparison: ")
    assert "._0.png" in line


def test_another_input_size(checkpoint, photos, tmp_path):
    size = load_detector(checkpoint).config.image_size
    output = tmp_path / "small.onnx"
    call = ["--checkpoint", checkpoint, "--output", str(output), "--parity", photos]
    assert main([*call, "--image-size", str(size - 16)]) == 0
    config = load_exported(output).config
    assert (config.image_size, config.anchors.trained_size) == (size - 16, size)


@pytest.fixture
def without_export(monkeypatch):
    """Writes a stub instead of the detector, with other detections."""

    def write(detector, path, spec, calibration, *, weight_bits):
        write_stub(path, spec)

    monkeypatch.setattr(igcv3det.export, "export_detector", write)


def test_a_file_that_disagrees(without_export, checkpoint, photos, tmp_path, capsys):
    output = tmp_path / "a.onnx"
    call = ["--checkpoint", checkpoint, "--output", str(output), "--nms", "--parity", photos]
    assert main(call) == 1
    errors = capsys.readouterr().err.splitlines()
    assert any("detections are missing, of 10 above 0.3; limit 2%" in line for line in errors)
    assert len(json.loads((tmp_path / "a.onnx.parity.json").read_text())["disagreements"]) >= 1


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "no such file"), (coco([1], []), "annotations: not a single object")],
)
def test_annotations_without_figures_do_not_lose_the_report(
    without_export, checkpoint, photos, tmp_path, capsys, content, reason
):
    annotations = tmp_path / "a.json"
    if content:
        write_json(annotations, content)
    output = tmp_path / "a.onnx"
    call = ["--checkpoint", checkpoint, "--output", str(output), "--nms", "--images", photos]
    assert main([*call, "--annotations", str(annotations)]) == 1
    assert f"a.json: {reason}" in capsys.readouterr().err
    assert (
        json.loads((tmp_path / "a.onnx.parity.json").read_text())["detections"]["confident"] == 10
    )


def test_images_in_folders_below_that_of_the_annotations(
    without_export, checkpoint, photos, tmp_path
):
    shutil.copytree(photos, tmp_path / "images" / "below")
    images = [
        {"id": number, "file_name": f"below/{number}.png", "width": width, "height": height}
        for number, (width, height) in enumerate(_sizes(photos))
    ]
    write_json(tmp_path / "a.json", coco([], [(0, 1, [5, 5, 20, 20])]) | {"images": images})
    call = ["--checkpoint", checkpoint, "--output", str(tmp_path / "a.onnx"), "--nms"]
    main([*call, "--annotations", f"{tmp_path}/a.json", "--images", f"{tmp_path}/images"])
    report = json.loads((tmp_path / "a.onnx.parity.json").read_text())
    assert report["images"]["number"] == 4
    assert report["AP"]["unreadable"] == []


def test_core_ml_files_are_written_and_not_compared(monkeypatch, checkpoint, tmp_path, capsys):
    monkeypatch.setattr(
        igcv3det.export, "export_detector", lambda _, path, *__, **___: path.mkdir()
    )
    output = tmp_path / "a.mlpackage"
    call = ["--checkpoint", checkpoint, "--output", str(output), "--format", "coreml"]
    assert main([*call, "--precision", "fp16"]) == 0
    report = json.loads((tmp_path / "a.mlpackage.parity.json").read_text())
    assert report["not_compared"].startswith("Core ML files run on Apple's systems only")
    assert "Not compared with PyTorch: Core ML" in capsys.readouterr().out


@pytest.mark.slow
def test_synthetic_shapes_without_parity_images(checkpoint, tmp_path):
    output = tmp_path / "tiny.xml"
    assert main(["--checkpoint", checkpoint, "--output", str(output), "--nms", "--preprocess"]) == 0
    report = json.loads((tmp_path / "tiny.xml.parity.json").read_text())
    assert report["images"]["from"] == "synthetic shapes; no --parity given"
    assert report["export"]["suppression"]
    assert report["export"]["preprocessing"]
    assert "candidates" not in report


@pytest.mark.slow
def test_average_precision_and_int8(checkpoint, photos, tmp_path, capsys):
    images = [
        {"id": i, "file_name": f"{i}.png", "width": w, "height": h}
        for i, (w, h) in enumerate(_sizes(photos))
    ]
    content = coco([], [(0, 1, [5, 5, 20, 20]), (2, 3, [0, 0, 30, 30])]) | {"images": images}
    annotations = write_json(tmp_path / "a.json", content)
    output = tmp_path / "tiny.onnx"
    arguments = ["--checkpoint", checkpoint, "--output", str(output), "--precision", "int8"]
    arguments += ["--calibration", photos, "--annotations", str(annotations)]
    main([*arguments, "--images", photos])
    report = json.loads((tmp_path / "tiny.onnx.parity.json").read_text())
    assert report["AP"]["unreadable"] == []
    assert report["AP"]["loss"] == pytest.approx(report["AP"]["pytorch"] - report["AP"]["exported"])
    assert "Calibrating on 4 images" in capsys.readouterr().out


def test_images_are_looked_for_before_the_export(checkpoint, tmp_path, capsys):
    output = tmp_path / "a.onnx"
    call = ["--checkpoint", checkpoint, "--output", str(output), "--parity", str(tmp_path / "no")]
    assert main(call) == 1
    assert "no such folder of images" in capsys.readouterr().err
    assert not output.exists()


def _sizes(folder):

    from igcv3det.io.images import read_image

    return [read_image(path).shape[1::-1] for path in sorted(Path(folder).iterdir())]


def test_what_cannot_be_done(checkpoint, tmp_path, capsys):
    output = str(tmp_path / "a.onnx")
    assert main(["--checkpoint", "missing.ckpt", "--output", output]) == 1
    assert capsys.readouterr().err == "export: missing.ckpt: no such file\n"
    empty = str(tmp_path)
    call = ["--checkpoint", checkpoint, "--output", output, "--precision", "int8"]
    assert main([*call, "--calibration", empty]) == 1
    assert f"{empty}: no images to compare on" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["--output", "a.pb"],
        ["--output", "a.onnx", "--format", "ncnn"],
        ["--output", "a.param", "--precision", "int8", "--calibration", "photos"],
        ["--output", "a.param", "--nms"],
        ["--output", "a.mlpackage", "--precision", "int8", "--calibration", "photos"],
        ["--output", "a.tflite", "--preprocess"],
        ["--output", "a.onnx", "--precision", "int8"],
        ["--output", "a.onnx", "--calibration", "photos"],
        ["--output", "a.onnx", "--precision", "int4"],
        ["--output", "a.onnx", "--annotations", "a.json"],
        ["--output", "a.onnx", "--parity-images", "0"],
    ],
    ids=" ".join,
)
def test_wrong_calls(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--checkpoint", "a.ckpt", *arguments])
    assert stopped.value.code == 2
    assert "error: " in capsys.readouterr().err
