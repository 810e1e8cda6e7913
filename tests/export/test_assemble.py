"""Writing exported files."""

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest

for _package in ("onnx", "openvino"):
    pytest.importorskip(_package, reason="needs the extra igcv3det[export]")

import onnx.parser  # noqa: E402

from igcv3det.export.assemble import read_openvino, save_onnx, save_openvino  # noqa: E402
from igcv3det.runtime.sessions import open_session  # noqa: E402

TEXT = """<ir_version: 10, opset_import: ["": 18]>
    small (float[1, 4] images) => (float[1, 4] heads) { heads = Add (images, bias) }"""


@pytest.fixture
def model():
    model = onnx.parser.parse_model(TEXT)
    bias = onnx.numpy_helper.from_array(np.ones((1, 4), np.float32), "bias")
    model.graph.initializer.append(bias)
    return model


def test_weights_of_another_file_are_refused(tmp_path, model):
    """Both have the same size: OpenVINO itself reads any."""
    save_openvino(read_openvino(model), tmp_path / "a.xml", '{"x": 1}')
    session = open_session(tmp_path / "a.xml")
    assert json.loads(session.description)["x"] == 1
    assert (session.run(np.zeros((1, 4), np.float32))[0] == 1).all()
    data = (tmp_path / "a.bin").read_bytes()
    (tmp_path / "a.bin").write_bytes(data[::-1])
    message = r"a\.bin: holds other weights than a\.xml was written with"
    with pytest.raises(ValueError, match=message):
        open_session(tmp_path / "a.xml")


def test_a_graph_without_description_is_not_checked(tmp_path, model):
    save_openvino(read_openvino(model), tmp_path / "a.xml", "")
    assert not open_session(tmp_path / "a.xml").description


@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
def test_a_file_that_cannot_be_written_leaves_the_earlier_one(tmp_path, monkeypatch, model, suffix):
    path = tmp_path / f"a{suffix}"

    def save():
        if suffix == ".onnx":
            save_onnx(model, path, "{}")
        else:
            save_openvino(read_openvino(model), path, "{}")

    save()
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert before.keys() == ({"a.onnx"} if suffix == ".onnx" else {"a.xml", "a.bin"})

    def full(partial, content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match=r"a\.(onnx|xml): the disk is full"):
        save()
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
