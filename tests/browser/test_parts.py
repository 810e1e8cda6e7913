"""The page's own arithmetic, in Node, against Python's."""

import base64
import dataclasses
import json
import shutil
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from igcv3det.config import PostprocessConfig, PreprocessConfig
from igcv3det.detection.postprocess import select_detections
from igcv3det.preprocess import Preprocess

HERE = Path(__file__).resolve().parent
NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="node is not installed")
SIZE = 48
FLATBUFFER = b"\x1c\0\0\0TFL3"  # how a .tflite begins


def run(script, *args, given=None):
    command = [NODE, "--no-warnings", HERE / script, *args]
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize(("resize", "levels"), [("bilinear", 1), ("tensorflow", 1e-4)])
def test_images_are_preprocessed_as_in_python(resize, levels):
    mean, std = (123.0, 117.0, 104.0), (58.0, 57.0, 57.5)
    config = PreprocessConfig(mean=mean, std=std, resize=resize)
    rng = np.random.default_rng(0)
    # larger, smaller, half, of the same size, a line
    sizes = [(100, 75), (20, 31), (2 * SIZE, 2 * SIZE), (SIZE, SIZE), (1, 90), (333, 47)]
    images = [rng.integers(0, 256, (height, width, 4), np.uint8) for height, width in sizes]
    given = {
        "images": [
            {"width": w, "height": h, "data": base64.b64encode(image.tobytes()).decode()}
            for (h, w), image in zip(sizes, images, strict=True)
        ],
        "description": {"size": SIZE, "mean": mean, "std": std, "resize": resize},
    }
    found = run("preprocess_images.mjs", given=json.dumps(given))
    preprocess = Preprocess(config, SIZE)
    for planes, image in zip(found, images, strict=True):
        expected = preprocess(np.ascontiguousarray(image[:, :, :3])).numpy()
        difference = np.abs(np.array(planes).reshape(expected.shape) - expected)
        assert (difference * np.array(std)[:, None, None]).max() <= levels + 1e-4


def test_nms_selects_what_python_selects():
    classes, size = 3, 100
    config = PostprocessConfig(
        score_threshold=0.3, candidates_per_class=12, iou_threshold=0.4, detections_per_image=20
    )
    rng = np.random.default_rng(0)
    corners = rng.uniform(-20, 100, (80, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(-5, 60, (80, 2))], axis=1)
    boxes, scores = boxes.astype(np.float32), rng.random((80, classes), np.float32)
    boxes[3, 2] = np.inf
    expected = select_detections(
        torch.from_numpy(boxes), torch.from_numpy(scores), (size, size), size, config
    )
    assert 10 < len(expected) <= config.detections_per_image
    given = {
        "boxes": np.where(np.isfinite(boxes), boxes, None).ravel().tolist(),  # JSON has no infinity
        "scores": scores.ravel().tolist(),
        "description": {"size": size, "postprocess": dataclasses.asdict(config)},
    }
    found = run("select_detections.mjs", given=json.dumps(given))
    np.testing.assert_allclose(found["boxes"], expected.boxes.numpy(), rtol=1e-6)
    np.testing.assert_allclose(found["scores"], expected.scores.numpy(), rtol=1e-6)
    assert found["labels"] == expected.labels.tolist()


def test_no_candidate_gives_no_detection():
    config = dataclasses.asdict(PostprocessConfig())
    given = {"boxes": [0, 0, 9, 9], "scores": [0.01, 0]}
    given["description"] = {"size": 10, "postprocess": config}
    found = run("select_detections.mjs", given=json.dumps(given))
    assert found == {"boxes": [], "scores": [], "labels": []}


@pytest.mark.parametrize("suffix", [".onnx", ".tflite"])
def test_the_description_of_an_exported_file_is_read(tmp_path, suffix):
    pytest.importorskip("onnx")
    from exported_files import CATEGORIES, CONFIG, describe, write_stub

    from igcv3det.runtime.export_spec import ExportSpec

    path = write_stub(tmp_path / "a.onnx", ExportSpec(nms=True))
    if suffix == ".tflite":
        description = describe(ExportSpec(single_image=True))
        path = tmp_path / "a.tflite"
        path.write_bytes(FLATBUFFER + bytes(1000))
        with zipfile.ZipFile(path, "a") as archive:  # as export/litert_files.py adds it
            archive.writestr("igcv3det.json", json.dumps(description))
    assert run("read_description.mjs", path) == {
        "size": CONFIG.image_size,
        "mean": list(CONFIG.preprocess.mean),
        "std": list(CONFIG.preprocess.std),
        "resize": CONFIG.preprocess.resize,
        "names": list(CATEGORIES.names),
        "precision": "fp32",
        "postprocess": dataclasses.asdict(CONFIG.postprocess),
    }


def test_an_onnx_file_without_nms_is_refused(tmp_path):
    pytest.importorskip("onnx")
    from exported_files import write_stub

    from igcv3det.runtime.export_spec import ExportSpec

    path = write_stub(tmp_path / "a.onnx", ExportSpec())
    assert "must be exported with --nms" in run("read_description.mjs", path)["error"]


@pytest.mark.parametrize(
    "content",
    [b"", b"text of no kind", b"\x0a\xff\xff", b"\x1c\0\0\0TFL3", b"\x1c\0\0\0TFL3" + bytes(99)],
)
def test_other_files_are_refused(tmp_path, content):
    (tmp_path / "a.onnx").write_bytes(content)
    assert "ONNX or LiteRT file" in run("read_description.mjs", tmp_path / "a.onnx")["error"]
