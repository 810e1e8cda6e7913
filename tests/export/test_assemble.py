"""Writing exported files."""

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

for _package in ("onnx", "openvino"):
    pytest.importorskip(_package, reason="needs the extra igcv3det[export]")

import onnx.parser  # noqa: E402
import openvino  # noqa: E402

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


GROUPED = """<ir_version: 10, opset_import: ["": 18]>
    grouped (float[N, 4, 5, 5] images) => (float[N, 6, 5, 5] heads)
    <float low = {0}, float high = {6}> {
        sums = Conv <group = 2, kernel_shape = [1, 1]> (images, weight, bias)
        heads = Clip (sums, low, high)
    }"""


def test_a_grouped_convolution_is_read_with_constant_weights_and_bias():
    """The converter's form, which quantisation expects; OpenVINO's reader alone gives reshapes."""
    model = onnx.parser.parse_model(GROUPED)
    numbers = np.random.default_rng(0)
    weight = numbers.standard_normal((6, 2, 1, 1)).astype(np.float32)
    bias = numbers.standard_normal(6).astype(np.float32)
    for name, values in (("weight", weight), ("bias", bias)):
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    read = read_openvino(model)
    operators = {node.get_type_name() for node in read.get_ops()}
    assert operators == {"Parameter", "Constant", "GroupConvolution", "Add", "Clamp", "Result"}
    images = numbers.standard_normal((2, 4, 5, 5)).astype(np.float32)
    halves = [
        np.einsum("oi,bihw->bohw", weight[3 * g : 3 * g + 3, :, 0, 0], images[:, 2 * g : 2 * g + 2])
        for g in range(2)
    ]
    expected = np.clip(np.concatenate(halves, axis=1) + bias[:, None, None], 0, 6)
    compiled = openvino.Core().compile_model(read, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    assert_allclose(compiled(images)[0], expected, rtol=1e-5, atol=1e-5)


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
