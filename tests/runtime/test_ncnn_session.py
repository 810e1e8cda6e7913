"""ncnn's files: what is refused, and which of the two files the message names."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("ncnn", reason="needs the extra igcv3det[ncnn]")
pytest.importorskip("onnx", reason="needs the extra igcv3det[export]")  # exported_files

from exported_files import CONFIG, SIZE, describe
from ncnn_stub import LAYERS, SPEC, WEIGHTS_BYTES, write_stub

from igcv3det.runtime import load_exported
from igcv3det.runtime.sessions import open_session


def test_outputs_of_a_known_network(tmp_path):
    exported = load_exported(write_stub(tmp_path / "a.param"), threads=1)
    assert exported.config == CONFIG
    image = np.zeros((1, 3, SIZE, SIZE), dtype=np.float32)
    image[0, 0, 0, :6] = [0, 0.9, 0.5, 0, 0, 0.7]
    boxes, scores = (output.numpy() for output in exported(__import__("torch").from_numpy(image)))
    np.testing.assert_array_equal(boxes[0, 1], [0, 0, 32, 32])
    np.testing.assert_array_equal(scores[0], np.float32([[0, 0.9], [0.5, 0], [0, 0.7]]))


def test_the_description_stays_with_a_copied_and_renamed_file(tmp_path):
    path = write_stub(tmp_path / "a.param")
    for suffix in (".param", ".bin"):
        path.with_suffix(suffix).rename(tmp_path / f"b{suffix}")
    assert load_exported(tmp_path / "b.param").spec == SPEC


WRONG = {
    "no description": ({"description": ""}, "a.param: has no description; only files written by"),
    "no JSON": ({"description": "{"}, "a.param: .* is not JSON"),
    "a list": ({"description": "[]"}, "a.param: has no description"),
    "another format": (
        {"description": json.dumps({**describe(SPEC), "format": 9})},
        "a.param: format 9; this version reads 1",
    ),
    "another size": (
        {"layers": LAYERS.replace(f"0={SIZE} 1={SIZE}", "0=64 1=64")},
        r"a.param: by its description the input is .*32, 32\], but the graph has .*64, 64\]",
    ),
    "input without a size": (
        {"layers": LAYERS.replace(f"0={SIZE} 1={SIZE} 2=3", "")},
        "a.param: has no input 'images' with a size; only files written by igcv3det export",
    ),
    "another classes": (
        {"layers": LAYERS.replace("0=2 1=3\n", "0=3 1=2\n")},
        r"a.param: .* scores float32\[1, 3, 2\], but the graph has .*\[1, 2, 3\]",
    ),
    "weights of another file": (
        {"weights": WEIGHTS_BYTES[::-1]},
        "a.bin: holds other weights than a.param was written with",
    ),
    "a layer of a newer ncnn": (
        {"layers": LAYERS.replace("Crop", "Teleport")},
        "a.param: ncnn cannot read it or its weights a.bin",
    ),
    "other text": (
        {"layers": "net { input: 3 }\n"},
        "a.param: ncnn cannot read it: it does not start with 7767517",
    ),
}


@pytest.mark.parametrize("case", WRONG, ids=str)
def test_what_is_refused(tmp_path, case):
    changes, message = WRONG[case]
    with pytest.raises(ValueError, match=message):
        load_exported(write_stub(tmp_path / "a.param", **changes))


def test_a_binary_file(tmp_path):
    path = write_stub(tmp_path / "a.param")
    path.write_bytes(b"\xff\xd8\xff\xe0 a photograph")
    with pytest.raises(ValueError, match=r"a.param: ncnn cannot read it: it is no text"):
        load_exported(path)


def test_missing_weights(tmp_path):
    path = write_stub(tmp_path / "a.param")
    path.with_suffix(".bin").unlink()
    with pytest.raises(FileNotFoundError, match=r"a.bin: no such file; a.param needs these"):
        load_exported(path)


def test_a_runtime_that_is_not_installed(tmp_path, monkeypatch):
    path = write_stub(tmp_path / "a.param")
    monkeypatch.setitem(__import__("sys").modules, "ncnn", None)
    with pytest.raises(ImportError, match=r"a.param: needs ncnn; .*'igcv3det\[ncnn\]'"):
        load_exported(path)


def test_an_output_that_ncnn_cannot_compute(tmp_path, monkeypatch):
    """Its array would have no memory: reading it ends the process."""
    session = open_session(write_stub(tmp_path / "a.param"), threads=1)

    class Extractor:
        def input(self, *_):
            pass

        def extract(self, _):
            return -100, None

    monkeypatch.setattr(session, "_net", SimpleNamespace(create_extractor=Extractor))
    with pytest.raises(ValueError, match=r"a.param: ncnn cannot compute boxes \(error -100\)"):
        session.run(np.zeros((1, 3, SIZE, SIZE), np.float32))
