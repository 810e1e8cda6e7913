"""tools/export.py as it is called from a shell."""

import json

import pytest

for _package in ("onnx", "onnxscript", "onnxruntime", "openvino"):
    pytest.importorskip(_package, reason="needs the extra igcv3det[export]")

from coco_files import coco, write_json  # noqa: E402
from export.networks import TENSORFLOW, lively_detector, write_images  # noqa: E402

from igcv3det.checkpoint import save_detector  # noqa: E402
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
    output = tmp_path / "new" / "tiny.onnx"
    assert main(["--checkpoint", checkpoint, "--output", str(output), "--parity", photos]) == 0
    assert load_exported(output).spec.precision == "fp32"
    report = json.loads((tmp_path / "new" / "tiny.onnx.parity.json").read_text())
    assert report["faults"] == []
    assert report["images"] == {"from": photos, "number": 4, "confident_score": 0.3}
    assert report["detections"]["found"] == report["detections"]["confident"] >= 10
    assert report["candidates"]["score"]["largest"] < 1e-4
    printed = capsys.readouterr().out
    assert "10 of 10 detections above 0.3 matched" in printed
    assert printed.rstrip().endswith("tiny.onnx.parity.json")


@pytest.mark.slow
def test_synthetic_images_for_want_of_real_ones(checkpoint, tmp_path):
    output = tmp_path / "tiny.xml"
    assert main(["--checkpoint", checkpoint, "--output", str(output), "--nms", "--preprocess"]) == 0
    report = json.loads((tmp_path / "tiny.xml.parity.json").read_text())
    assert report["images"]["from"] == "synthetic shapes, for want of --parity"
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
    assert report["AP"]["images"] == 4
    assert report["AP"]["unreadable"] == []
    assert report["AP"]["loss"] == pytest.approx(report["AP"]["eager"] - report["AP"]["exported"])
    assert "Calibrating on 4 images" in capsys.readouterr().out


def _sizes(folder):
    from pathlib import Path

    from igcv3det.io.images import read_image

    return [read_image(path).shape[1::-1] for path in sorted(Path(folder).iterdir())]


def test_what_cannot_be_done(checkpoint, tmp_path, capsys):
    output = str(tmp_path / "a.onnx")
    assert main(["--checkpoint", "missing.ckpt", "--output", output]) == 1
    assert capsys.readouterr().err == "export: missing.ckpt: no such file\n"
    empty = str(tmp_path)
    call = ["--checkpoint", checkpoint, "--output", output, "--precision", "int8"]
    assert main([*call, "--calibration", empty]) == 1
    assert "no image to calibrate on" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["--output", "a.pb"],
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
