"""The page in headless Chromium: what Python finds, by keyboard, offline, on small screens."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest
import torch

from igcv3det.checkpoint import load_detector
from igcv3det.config import BackboneConfig, DetectorConfig, HeadConfig
from igcv3det.detector import build_detector
from igcv3det.predictor import Predictor

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PAGE = ROOT / "tools" / "browser"
PHOTOS = ROOT / "docs" / "images" / "photos.jpg"
PARTS = {"woman": (0, 260), "cat": (264, 654), "officer": (1054, 1275)}  # columns of the photos
ORIENTATION, TURNED = 0x0112, 6
THRESHOLD = 0.3
SMALL = DetectorConfig(
    num_classes=2,
    image_size=64,
    backbone=BackboneConfig(width=0.25, depth=0.25),
    head=HeadConfig(extra_channels=(16, 16)),
)
SOFTWARE_GPU = "--enable-unsafe-webgpu --enable-features=Vulkan --use-webgpu-adapter=swiftshader"
pytestmark = pytest.mark.slow


def _chromium():
    names = (os.environ.get("CHROMIUM"), "chromium", "chromium-browser", "google-chrome")
    return next((file for name in names if name and (file := shutil.which(name))), None)


@pytest.fixture(scope="module")
def programs():
    for name in ("node", "npm"):
        if shutil.which(name) is None:
            pytest.skip(f"{name} is not installed")
    if _chromium() is None:
        pytest.skip("no Chromium; CHROMIUM may name one")
    if not (PAGE / "node_modules" / "playwright-core").is_dir():
        pytest.skip("run npm ci in tools/browser first")
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")


@pytest.fixture(scope="module", params=["onnx", "tflite"])
def model(request, programs, tmp_path_factory):
    """A file for each of the page's engines."""
    from igcv3det.export import export_detector
    from igcv3det.runtime import ExportSpec

    path = tmp_path_factory.mktemp("model") / f"model.{request.param}"
    if request.param == "tflite":
        pytest.importorskip("litert_torch", reason="needs the extra igcv3det[litert]")
        export_detector(load_detector("igcv3-d"), path)  # float32, as the build writes it
    else:
        export_detector(load_detector("igcv3-d"), path, ExportSpec("fp16", nms=True))
    return path


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Photographs as PNG, and one as a JPEG that a viewer turns."""
    folder = tmp_path_factory.mktemp("images")
    with PIL.Image.open(PHOTOS) as photos:
        height = photos.height
        for name, (left, right) in PARTS.items():
            photos.crop((left, 0, right, height)).save(folder / f"{name}.png")
        exif = PIL.Image.Exif()
        exif[ORIENTATION] = TURNED
        lying = photos.crop((264, 0, 654, height)).transpose(PIL.Image.Transpose.ROTATE_90)
        lying.save(folder / "turned.jpg", quality=95, exif=exif)
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def shown(programs, model, images, tmp_path_factory):
    """What the page showed, and the folder of its screenshots."""
    folder = tmp_path_factory.mktemp("page")
    video = folder / "video.webm"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"VP80"), 10, (320, 240))
    for value in range(0, 200, 10):
        writer.write(np.full((240, 320, 3), value, np.uint8))
    writer.release()
    return _drive(folder, model, [*images, *([video] if video.is_file() else [])]), folder


def _drive(folder, model, files, browser_args=""):
    """Builds the page with a model and uses it."""
    build = ["npm", "run", "build", "--", "--model", model, "--output", folder / "built"]
    subprocess.run(build, cwd=PAGE, check=True, capture_output=True)
    script = ["node", HERE / "drive_page.mjs", folder / "built", _chromium(), folder]
    done = subprocess.run(
        [*script, *files],
        capture_output=True,
        text=True,
        timeout=400,
        env={**os.environ, "CHROMIUM_ARGS": browser_args},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def _assert_same(found, expected):
    assert [one["name"] for one in found] == expected.names
    scores = [one["score"] for one in found]
    np.testing.assert_allclose(scores, expected.scores.numpy(), atol=0.02)
    boxes = np.array([one["box"] for one in found])
    np.testing.assert_allclose(boxes, expected.boxes.numpy(), atol=1)


@pytest.mark.parametrize("name", [*(f"{part}.png" for part in PARTS), "turned.jpg"])
def test_the_page_finds_what_python_finds(shown, images, name):
    (path,) = (path for path in images if path.name == name)
    expected = Predictor.load("igcv3-d")(path, threshold=THRESHOLD)
    assert len(expected) > 0
    _assert_same(shown[0]["images"][str(path)], expected)


def test_the_engine_and_its_first_detection(shown, model):
    report, _ = shown
    engine = "LiteRT, WASM" if model.suffix == ".tflite" else "ONNX Runtime, "
    assert report["ready"].startswith(f"Ready: {engine}")
    # 2 to 4 s on two busy cores
    assert report["firstDetection"] < 10_000


def test_the_status_says_what_was_found(shown):
    assert shown[0]["summary"] == "woman.png: 1 person"


def test_it_uses_threads_without_headers_of_the_server(shown):
    report, _ = shown
    assert report["isolated"]
    assert report["ready"].endswith(", works offline")


def test_it_works_offline(shown, images):
    report, _ = shown
    assert report["offline"] == report["images"][str(images[0])]


def test_nothing_goes_to_another_host_and_no_error_is_logged(shown):
    report, _ = shown
    assert (report["elsewhere"], report["errors"]) == ([], [])


def test_keyboard_and_small_screens(shown):
    report, folder = shown
    assert report["reached"] == ["file", "camera", "threshold"]  # Stop has nothing to stop
    assert report["threshold"] == "0.95"
    assert all(one["score"] > 0.95 for one in report["above"])
    assert report["overflow"] <= 0
    assert (folder / "page.png").is_file()


def test_camera_video_and_a_broken_file(shown):
    report, _ = shown
    assert report["camera"] == "Detecting in the camera …"
    assert report["broken"] == "Error: broken.jpg: this browser cannot read it"
    if "video" not in report:
        pytest.skip("OpenCV writes no WebM here")
    assert "frames/s" in report["video"]


def test_webgpu_finds_what_python_finds(programs, tmp_path):
    """On a processor that imitates a graphics card, so with a detector of 64 pixels."""
    from igcv3det.export import export_detector
    from igcv3det.runtime import ExportSpec

    detector = build_detector(SMALL)
    for parameter in detector.head.parameters():
        torch.nn.init.normal_(parameter, std=0.2)  # scores that differ
    export_detector(detector, tmp_path / "small.onnx", ExportSpec(nms=True))
    with PIL.Image.open(PHOTOS) as photos:
        photos.crop((0, 0, 260, 260)).save(tmp_path / "a.png")
    report = _drive(tmp_path, tmp_path / "small.onnx", [tmp_path / "a.png"], SOFTWARE_GPU)
    if "WebGPU" not in report["ready"]:
        pytest.skip("this Chromium has no WebGPU without a graphics card")
    found = report["images"][str(tmp_path / "a.png")]
    expected = Predictor(detector)(tmp_path / "a.png", threshold=THRESHOLD)
    # Equal scores, which random weights give, come in any order, and any of them last
    last = expected.scores.min() + 0.001
    certain = [one for one in expected.to_dict()["detections"] if one["score"] > last]
    assert len(certain) > 10
    for one in certain:
        assert any(
            one["label"] == own["name"]
            and own["score"] == pytest.approx(one["score"], abs=0.001)
            and own["box"] == pytest.approx(one["box"], abs=1)
            for own in found
        ), one
    assert report["errors"] == []
