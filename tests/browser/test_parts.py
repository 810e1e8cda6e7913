"""The page's own arithmetic, in Node, against Python's."""

import base64
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from igcv3det.config import PreprocessConfig
from igcv3det.preprocess import Preprocess

HERE = Path(__file__).resolve().parent
NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="node is not installed")
SIZE = 48


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


def test_the_description_of_an_exported_file_is_read(tmp_path):
    pytest.importorskip("onnx")
    from exported_files import CATEGORIES, CONFIG, write_stub

    from igcv3det.runtime.export_spec import ExportSpec

    path = write_stub(tmp_path / "a.onnx", ExportSpec(nms=True))
    assert run("read_description.mjs", path) == {
        "size": CONFIG.image_size,
        "mean": list(CONFIG.preprocess.mean),
        "std": list(CONFIG.preprocess.std),
        "resize": CONFIG.preprocess.resize,
        "names": list(CATEGORIES.names),
        "precision": "fp32",
    }
    write_stub(path, ExportSpec())
    assert "must be exported with --nms" in run("read_description.mjs", path)["error"]


@pytest.mark.parametrize("content", [b"", b"text of no kind", b"\x0a\xff\xff"])
def test_other_files_are_refused(tmp_path, content):
    (tmp_path / "a.onnx").write_bytes(content)
    assert "ONNX file" in run("read_description.mjs", tmp_path / "a.onnx")["error"]
