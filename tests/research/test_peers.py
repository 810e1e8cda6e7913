"""The side-by-side table as a user runs it, on a tiny detector and a made-up peer."""

import json

import numpy as np
import pytest
import torch
from coco_files import coco, save_tiny_detector, write_json, write_noise
from torch.testing import assert_close

from igcv3det.checkpoint import load_detector
from igcv3det.datasets.coco_categories import COCO_CATEGORIES
from igcv3det.measure.complexity import count_multiply_adds

onnx = pytest.importorskip("onnx", reason="the benchmark needs the extra 'export'")
pytest.importorskip("onnxruntime", reason="the benchmark needs the extra 'export'")

from research import peers  # noqa: E402 (after the check that it can be imported)


def _graph(bias_name=""):
    weights = [
        onnx.numpy_helper.from_array(np.ones((4, 2, 3, 3), np.float32), "kernel"),
        onnx.numpy_helper.from_array(np.ones(4, np.float32), "bias"),
        onnx.numpy_helper.from_array(np.ones((5, 7), np.float32), "matrix"),
    ]
    float32 = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node(
                "Conv", ["x", "kernel", "bias"], ["y"], group=2, strides=[2, 2], pads=[1, 1, 1, 1]
            ),
            onnx.helper.make_node("MatMul", ["y", "matrix"], ["z"]),
        ],
        "small",
        [onnx.helper.make_tensor_value_info("x", float32, ["batch", 4, 10, 10])],
        [onnx.helper.make_tensor_value_info("z", float32, ["batch", 4, 5, 7])],
        weights,
    )
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)])


def test_counts_by_hand():
    # 4 kernels of 2x3x3 and their biases, 5x7; 4x5x5 outputs of 18 products, 4x5x7 of 5
    assert peers.count(_graph()) == (4 * 18 + 4 + 35, 100 * 18 + 140 * 5)


def test_an_unknown_shape_is_an_error():
    graph = _graph()
    graph.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"
    del graph.graph.output[0].type.tensor_type.shape.dim[:]
    with pytest.raises(ValueError, match="no known shape"):
        peers.count(graph)


NOTHING_SEEN = """
    <ir_version: 9, opset_import: ["": 18]>
    yolox (float[1, 3, 32, 32] images) => (float[1, 21, 85] output)
    <int64[1] first = {0}, int64[3] shape = {1, 21, 85}, float zero = {0}>
    {
        mean = ReduceMean (images)
        flat = Squeeze (mean, first)
        nothing = Mul (flat, zero)
        output = Expand (nothing, shape)
    }
"""


def test_missing_peers_and_data(tmp_path, capsys):
    assert peers.main(["--peers", str(tmp_path)]) == 1
    assert "holds none of nanodet.onnx" in capsys.readouterr().err
    with pytest.raises(SystemExit) as wrong_call:
        peers.main(["--peers", str(tmp_path), "--images", str(tmp_path)])
    assert wrong_call.value.code == 2


def test_a_missing_checkpoint_is_named(tmp_path, capsys):
    assert peers.main([str(tmp_path / "no.safetensors"), "--peers", str(tmp_path)]) == 1
    assert "no.safetensors: no such file" in capsys.readouterr().err


def test_rows_of_a_peer(tmp_path, capsys):
    onnx.save(onnx.parser.parse_model(NOTHING_SEEN), tmp_path / "yolox_nano.onnx")
    output = tmp_path / "rows.json"
    arguments = ["--peers", str(tmp_path), "--rounds", "2", "--threads", "1", "--json", str(output)]
    assert peers.main(arguments) == 0
    [row] = json.loads(output.read_text())
    assert (row["name"], row["image_size"], row["AP"]) == ("YOLOX-Nano 416", 32, None)
    assert row["latency_ms"] > 0
    assert "YOLOX-Nano 416" in capsys.readouterr().out


def test_unreadable_images_of_a_data_set_are_named(tmp_path, capsys):
    onnx.save(onnx.parser.parse_model(NOTHING_SEEN), tmp_path / "yolox_nano.onnx")
    content = coco([1, 2], [(1, 1, (10, 10, 50, 40))], COCO_CATEGORIES)
    annotations = write_json(tmp_path / "instances.json", content)
    write_noise(tmp_path / "1.png")
    arguments = ["--peers", str(tmp_path), "--rounds", "1", "--json", str(tmp_path / "rows.json")]
    files = ["--annotations", str(annotations), "--images", str(tmp_path)]
    assert peers.main([*arguments, *files]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("peers: ")
    assert "2.png" in line
    [row] = json.loads((tmp_path / "rows.json").read_text())
    assert row["AP"] == 0


@pytest.mark.slow
def test_our_own_row_is_of_the_same_network(tmp_path):
    checkpoint = save_tiny_detector(tmp_path / "tiny.safetensors")
    detector = load_detector(checkpoint)
    images = torch.randn(1, 3, detector.config.image_size, detector.config.image_size)
    network = peers.our_target(checkpoint, threads=1)
    with torch.no_grad():
        expected = detector(images)
    for found, value in zip(network.run(images.numpy()), expected, strict=True):
        assert_close(torch.from_numpy(found), value, atol=1e-4, rtol=1e-4)
    _, multiply_adds = peers.count(network.graph)
    assert multiply_adds == count_multiply_adds(detector, images.shape)
