"""The reader of TensorFlow.js graph models, on models of a few bytes."""

import json

import numpy as np
import pytest
from synthetic_graph import write_files

from research.convert.tfjs import Node, read_graph_model

WEIGHTS = {
    "scale": np.array([[1.5, -2, 0.25]], np.float32),
    "axis": np.array(-1, np.int32),
    "empty": np.zeros((0, 4), np.float32),
    "switch": np.array([True, False]),
}
NODES = [
    {"name": "image", "op": "Placeholder"},
    *({"name": name, "op": "Const", "input": []} for name in WEIGHTS),
    {
        "name": "out",
        "op": "Conv2D",
        "input": ["image", "scale"],
        "attr": {
            "padding": {"s": [83, 65, 77, 69]},
            "data_format": {"s": "NHWC"},
            "strides": {"list": {"i": ["1", "2", "2", "1"]}},
            "epsilon": {"f": 0.5},
        },
    },
]


@pytest.fixture
def folder(tmp_path):
    write_files(tmp_path, NODES, WEIGHTS)
    return tmp_path


def _edit(folder, change):
    model = json.loads((folder / "model.json").read_text())
    change(model)
    (folder / "model.json").write_text(json.dumps(model))


def test_weights_across_shards(folder):
    model = read_graph_model(folder)
    assert list(model.weights) == list(WEIGHTS)
    for name, expected in WEIGHTS.items():
        np.testing.assert_array_equal(model.weights[name], expected)
        assert model.weights[name].dtype == expected.dtype


def test_attributes(folder):
    node = read_graph_model(folder).nodes["out"]
    assert node.inputs == ("image", "scale")
    assert (node.text("padding"), node.text("data_format")) == ("SAME", "NHWC")
    assert node.integers("strides") == (1, 2, 2, 1)
    assert node.number("epsilon") == 0.5


def test_absent_attributes():
    node = Node("n", "Add", (), {})
    assert (node.text("padding"), node.integers("strides"), node.number("epsilon")) == ("", (), 0.0)


def test_missing_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"elsewhere.model\.json: no such file"):
        read_graph_model(tmp_path / "elsewhere")


def test_a_missing_shard_is_named(folder):
    (folder / "group1-shard2of2").unlink()
    with pytest.raises(FileNotFoundError, match="group1-shard2of2"):
        read_graph_model(folder)


@pytest.mark.parametrize("text", ["[]", "{", '{"modelTopology": {}}', '{"format": "layers-model"}'])
def test_other_json_is_refused(folder, text):
    (folder / "model.json").write_text(text)
    with pytest.raises(ValueError, match=r"model\.json: not a TensorFlow\.js graph model"):
        read_graph_model(folder)


def test_a_truncated_shard_names_the_tensor(folder):
    shard = folder / "group1-shard2of2"
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(ValueError, match="the shards end at byte 17, inside weight 'switch'"):
        read_graph_model(folder)


def test_extra_bytes_are_refused(folder):
    with (folder / "group1-shard2of2").open("ab") as shard:
        shard.write(b"\0")
    with pytest.raises(ValueError, match="have 19 bytes, the manifest describes 18"):
        read_graph_model(folder)


def test_quantized_weights_are_refused(folder):
    def quantize(model):
        entry = model["weightsManifest"][0]["weights"][0]
        entry["quantization"] = {"dtype": "uint8", "scale": 0.1, "min": -2}

    _edit(folder, quantize)
    with pytest.raises(ValueError, match="weight 'scale' is uint8, only unquantized"):
        read_graph_model(folder)


def test_graph_and_manifest_must_agree(folder):
    _edit(folder, lambda model: model["modelTopology"]["node"][1].update(name="other"))
    with pytest.raises(ValueError, match=r"without values \['other'\].*constants \['scale'\]"):
        read_graph_model(folder)
