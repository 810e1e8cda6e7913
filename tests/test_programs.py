"""The programs of docs/programs.md, as they stand there, on files whose detections are known."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "programs.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```\w+\n(?:#|//) (\w+\.\w+)\n(.*?)^```", PAGE, re.M | re.S)
PROGRAMS = dict(BLOCKS)
WIDTH, HEIGHT = 64, 32
# exported_files.py: the image's mean is the dog's score, half of it that of a cat as large as it
DOG, CAT = (0, 0, 32, 16), (0, 0, 64, 32)


def write_image(path, grey):
    pixels = np.full((HEIGHT, WIDTH, 3), grey, np.uint8)
    path.write_bytes(b"P6\n%d %d\n255\n" % (WIDTH, HEIGHT) + pixels.tobytes())
    return path


def write_program(folder, name, config=None):
    """A program; with a config, its constants are that detector's."""
    text = PROGRAMS[name]
    if config is not None:
        constants = {
            r"(SIZE = )\d+": str(config.image_size),
            r"(MEAN\S* = .)127.5f?, 127.5f?, 127.5f?": ", ".join(map(str, config.preprocess.mean)),
            r"(STD\S* = .)127.5f?, 127.5f?, 127.5f?": ", ".join(map(str, config.preprocess.std)),
            r"(CENTRE = )0": "0.5" if config.preprocess.resize == "bilinear" else "0",
        }
        for pattern, value in constants.items():
            text, number = re.subn(pattern, rf"\g<1>{value}", text)
            assert number == 1, pattern
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def run(*command, **options):
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, **options)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    return [(name, float(score), tuple(map(float, box))) for name, score, *box in lines]


@pytest.mark.parametrize(("kind", "suffix"), [("onnxruntime", ".onnx"), ("openvino", ".xml")])
def test_python(tmp_path, kind, suffix):
    for package in ("onnx", kind):
        pytest.importorskip(package, reason="needs the extra igcv3det[export]")
    from exported_files import write_stub

    from igcv3det.runtime import ExportSpec

    model = write_stub(tmp_path / f"a{suffix}", ExportSpec(nms=True))
    image = write_image(tmp_path / "a.ppm", 204)
    program = write_program(tmp_path, f"detect_{kind}.py")
    assert run(sys.executable, program, model, image) == [("dog", 0.8, DOG), ("cat", 0.4, CAT)]
    assert run(sys.executable, program, model, write_image(image, 102)) == [("dog", 0.4, DOG)]


def test_python_resizes_as_tensorflow_does(tmp_path):
    pytest.importorskip("onnx", reason="needs the extra igcv3det[export]")
    pytest.importorskip("onnxruntime", reason="needs the extra igcv3det[export]")
    from exported_files import describe, write_stub

    from igcv3det.runtime import ExportSpec

    spec = ExportSpec(nms=True)
    description = describe(spec)
    description["detector"]["preprocess"]["resize"] = "tensorflow"
    model = write_stub(tmp_path / "a.onnx", spec, json.dumps(description))
    image = tmp_path / "a.ppm"
    # Every second column is white: the pixels at 2 * i, while OpenCV's resize gives the mean of two
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    pixels[:, ::2] = 255
    image.write_bytes(b"P6\n%d %d\n255\n" % (WIDTH, HEIGHT) + pixels.tobytes())
    program = write_program(tmp_path, "detect_onnxruntime.py")
    assert run(sys.executable, program, model, image) == [("dog", 1.0, DOG), ("cat", 0.5, CAT)]


def test_javascript(tmp_path):
    pytest.importorskip("onnx", reason="needs the extra igcv3det[export]")
    from exported_files import CONFIG, write_stub

    from igcv3det.runtime import ExportSpec

    modules = Path(os.environ.get("NODE_MODULES", ROOT / "node_modules"))
    if shutil.which("node") is None or not (modules / "onnxruntime-node").is_dir():
        pytest.skip("needs Node and onnxruntime-node; NODE_MODULES may name its node_modules")
    (tmp_path / "node_modules").symlink_to(modules)
    model = write_stub(tmp_path / "a.onnx", ExportSpec(nms=True))
    program = write_program(tmp_path, "detect.mjs", CONFIG)
    found = run("node", program, model, write_image(tmp_path / "a.ppm", 204))
    assert found == [("2", 0.8, DOG), ("1", 0.4, CAT)]


def test_cpp(tmp_path):
    pytest.importorskip("onnx", reason="needs the extra igcv3det[export]")  # of exported_files
    from exported_files import CONFIG
    from ncnn_stub import write_stub

    folder = Path(os.environ.get("NCNN_ROOT", "/usr"))
    if shutil.which("g++") is None or not (folder / "include" / "ncnn" / "net.h").is_file():
        pytest.skip("needs g++ and ncnn's headers; NCNN_ROOT may name where ncnn is installed")
    program = write_program(tmp_path, "detect.cpp", CONFIG)
    headers = ("-I", folder / "include" / "ncnn")
    library = ("-L", folder / "lib", "-lncnn", "-fopenmp")
    build = ("g++", "-O1", "-std=c++17", "-Wall", "-Wextra", "-Werror")
    binary = tmp_path / "detect"
    run(*build, program, *headers, *library, "-o", binary)
    model = write_stub(tmp_path / "a.param")
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    # ncnn_stub.py: the first six red values of the input are the scores of three anchors; of the
    # last two, both dogs, NMS leaves one. Each value of the input is the mean of two of a row.
    reds = [51, 204, 102, 0, 0, 153]
    image[0, : 2 * len(reds), 0] = np.repeat(reds, 2)
    (tmp_path / "a.ppm").write_bytes(b"P6\n%d %d\n255\n" % (WIDTH, HEIGHT) + image.tobytes())
    found = run(binary, model, model.with_suffix(".bin"), tmp_path / "a.ppm")
    assert found == [("2", 0.8, DOG), ("1", 0.4, CAT)]


def test_the_first_four_are_there():
    assert list(PROGRAMS) == [
        "detect_onnxruntime.py",
        "detect_openvino.py",
        "detect.mjs",
        "detect.cpp",
    ]
