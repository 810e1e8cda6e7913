"""The converter on a model with the real names and random weights."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from synthetic_graph import write_model
from tfjs_graph import LOGITS, OFFSETS, OPS, RESIZED, evaluate, resize_bilinear
from torch.testing import assert_close

from igcv3det.checkpoint import load_detector, read_config
from igcv3det.datasets.coco_categories import COCO_CATEGORIES
from igcv3det.models.layers import SameConv2d
from igcv3det.preprocess import Preprocess
from igcv3det.weight_files import read_metadata
from research.convert.ssdlite import CONFIG, convert_graph, folded_norms, layers
from research.convert.tfjs import Node, read_graph_model
from tools import convert_tf

UNUSED_IDS = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)
CONFIG_FILE = Path(__file__).parents[3] / "configs" / "mobilenetv2_ssdlite300_tf.yaml"
STEM = "FeatureExtractor/MobilenetV2/Conv/"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfjs")
    write_model(folder)
    return folder


@pytest.fixture(scope="module")
def graph(folder):
    return read_graph_model(folder)


def _with_weight(graph, name, value):
    return dataclasses.replace(graph, weights={**graph.weights, name: value})


def _with_attribute(graph, name, attribute, value):
    node = graph.nodes[name]
    node = dataclasses.replace(node, attributes={**node.attributes, attribute: value})
    return dataclasses.replace(graph, nodes={**graph.nodes, name: node})


def test_outputs_are_those_of_the_graph(graph):
    image = np.random.default_rng(1).integers(0, 256, (213, 320, 3), np.uint8)
    feeds = {RESIZED: resize_bilinear(image, 300)[None]}
    offsets, logits = evaluate(graph, feeds, [OFFSETS, LOGITS])
    detector = convert_graph(graph)
    x = Preprocess(CONFIG.preprocess, CONFIG.image_size)(image)
    with torch.no_grad():
        outputs = detector(x[None])
    assert_close(
        outputs.logits.numpy(), logits[..., [0, *COCO_CATEGORIES.ids]], atol=1e-4, rtol=1e-4
    )
    assert_close(outputs.offsets.numpy(), offsets[..., [1, 0, 3, 2]], atol=1e-4, rtol=1e-4)
    assert logits.std() > 0.1  # near-constant outputs would prove nothing


def test_ten_columns_are_dropped_and_the_background_is_kept(graph):
    assert sorted({*COCO_CATEGORIES.ids, *UNUSED_IDS}) == list(range(1, 91))
    name = "BoxPredictor_2/ClassPredictor/biases"
    numbered = np.arange(6 * 91, dtype=np.float32)
    bias = convert_graph(_with_weight(graph, name, numbered)).head.classification[2][1].bias
    box, column = np.divmod(bias.detach().numpy(), 91)
    np.testing.assert_array_equal(box, np.repeat(np.arange(6), 81))
    np.testing.assert_array_equal(column.reshape(6, 81), [[0, *COCO_CATEGORIES.ids]] * 6)


def test_offsets_are_swapped_within_each_box(graph):
    name = "BoxPredictor_0/BoxEncodingPredictor/biases"
    numbered = np.arange(12, dtype=np.float32)  # (dy, dx, dh, dw) of three boxes
    bias = convert_graph(_with_weight(graph, name, numbered)).head.regression[0][1].bias
    assert bias.tolist() == [1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10]


def test_folded_normalisation_is_scale_and_shift(graph):
    scope = "FeatureExtractor/MobilenetV2/expanded_conv_4/depthwise/BatchNorm/batchnorm"
    norm = convert_graph(graph).backbone.features[5].conv[1][1]
    values = torch.linspace(-3, 3, 5).reshape(1, 1, 1, 5).expand(1, 192, 1, 5)
    scale, shift = (
        torch.from_numpy(graph.weights[f"{scope}/{n}"])[:, None] for n in ("mul", "sub")
    )
    assert_close(norm(values)[0, :, 0], values[0, :, 0] * scale + shift)


def test_every_convolution_and_normalisation_is_in_the_table(graph):
    detector = convert_graph(graph)
    table = list(layers())
    named = [layer.conv for layer in table] + [layer.norm for layer in table if layer.norm]
    kinds = (torch.nn.Conv2d, torch.nn.BatchNorm2d)
    assert sorted(named) == sorted(n for n, m in detector.named_modules() if isinstance(m, kinds))
    assert len(folded_norms(detector)) == sum(
        layer.kind in ("dense", "depthwise") for layer in table
    )


def test_a_missing_tensor_is_named(graph):
    name = f"{STEM}Conv2D/merged_input"
    weights = {key: value for key, value in graph.weights.items() if key != name}
    with pytest.raises(ValueError, match=r"model\.json.*missing " + name + r" \(3, 3, 3, 32\)"):
        convert_graph(dataclasses.replace(graph, weights=weights))


def test_an_unknown_tensor_is_named(graph):
    with pytest.raises(ValueError, match="unknown BoxPredictor_6/weights"):
        convert_graph(_with_weight(graph, "BoxPredictor_6/weights", np.zeros(1, np.float32)))


def test_another_shape_is_named(graph):
    name = "BoxPredictor_5/ClassPredictor/biases"
    with pytest.raises(ValueError, match=name + r" has shape \(24,\), not \(546,\)"):
        convert_graph(_with_weight(graph, name, np.zeros(24, np.float32)))


def test_all_errors_are_in_one_message(graph):
    weights = {n: v for n, v in graph.weights.items() if not n.startswith(STEM)}
    with pytest.raises(ValueError, match=r"missing .*merged_input.*missing .*sub.*unknown more"):
        convert_graph(dataclasses.replace(graph, weights={**weights, "more": np.zeros(1)}))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ConstantFolding/Postprocessor/Decode/div_recip", np.float32(0.2)),
        ("Preprocessor/map/while/ResizeImage/stack", np.array([320, 320], np.int32)),
        ("BoxPredictor_0/stack_1/2", np.int32(90)),
        ("Preprocessor/mul/x", np.float32(1 / 255)),
    ],
)
def test_a_constant_of_another_value_is_named(graph, name, value):
    with pytest.raises(ValueError, match=f"{name} is not"):
        convert_graph(_with_weight(graph, name, np.asarray(value)))


def test_other_anchors_are_refused(graph):
    name = "Postprocessor/ExpandDims"
    anchors = graph.weights[name].copy()
    anchors[0, 700, 2] += 1e-4
    with pytest.raises(ValueError, match=f"{name} is not as expected"):
        convert_graph(_with_weight(graph, name, anchors))


def test_values_that_are_not_finite_are_refused(graph):
    name = "BoxPredictor_5/BoxEncodingPredictor/biases"
    with pytest.raises(ValueError, match=f"{name} has values that are not finite"):
        convert_graph(_with_weight(graph, name, np.full(24, np.nan, np.float32)))


@pytest.mark.parametrize(
    ("name", "attribute", "value", "message"),
    [
        (f"{STEM}BatchNorm/batchnorm/mul_1", "padding", {"s": "VALID"}, "'VALID'"),
        (
            "FeatureExtractor/MobilenetV2/expanded_conv_2/depthwise/depthwise",
            "strides",
            {"list": {"i": ["1", "2", "2", "1"]}},
            r"\(1, 2, 2, 1\)",
        ),
        (
            "BoxPredictor_1/ClassPredictor_depthwise/BatchNorm/FusedBatchNorm",
            "epsilon",
            {"f": 1e-5},
            "epsilon 1e-05",
        ),
    ],
)
def test_another_operation_is_refused(graph, name, attribute, value, message):
    with pytest.raises(ValueError, match=f"{name} has .*{message}"):
        convert_graph(_with_attribute(graph, name, attribute, value))


def test_the_configuration_file_has_the_same_values():
    assert read_config(CONFIG_FILE) == CONFIG


def test_the_command_writes_a_complete_checkpoint(graph, folder, tmp_path, capsys):
    output = tmp_path / "teacher.safetensors"
    assert convert_tf.main([str(folder), str(output)]) == 0
    assert str(output) in capsys.readouterr().out
    loaded, expected = load_detector(output), convert_graph(graph)
    assert loaded.config == CONFIG
    assert loaded.categories == COCO_CATEGORIES
    assert_close(loaded.state_dict(), expected.state_dict())
    metadata = read_metadata(output)
    assert metadata["licence"] == "Apache-2.0"
    assert "ssdlite_mobilenet_v2_coco" in metadata["source"]


def test_errors_of_the_command(folder, tmp_path, capsys):
    output = tmp_path / "teacher.safetensors"
    assert convert_tf.main([str(tmp_path), str(output)]) == 1
    assert "model.json: no such file" in capsys.readouterr().err
    assert convert_tf.main([str(folder), str(output), "--statistics", str(folder)]) == 1
    assert "no images there" in capsys.readouterr().err
    assert not output.exists()
    with pytest.raises(SystemExit) as wrong_call:
        convert_tf.main([str(folder), "teacher.onnx"])
    assert wrong_call.value.code == 2


@pytest.mark.parametrize("side", [1, 2, 5, 6, 19, 38])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (2, 2), (5, 3)])
def test_same_padding_agrees_with_the_formula(side, kernel, stride):
    conv = SameConv2d(2, 4, (kernel, kernel), stride=(stride, stride), bias=False)
    x = torch.randn(1, 2, side, side + 1)
    text = {"padding": {"s": "SAME"}, "data_format": {"s": "NHWC"}}
    steps = {"list": {"i": ["1", str(stride), str(stride), "1"]}}
    node = Node("n", "Conv2D", (), {**text, "strides": steps, "dilations": {"list": {"i": ["1"]}}})
    weight = conv.weight.detach().permute(2, 3, 1, 0).numpy()
    expected = OPS["Conv2D"](node, x.permute(0, 2, 3, 1).numpy(), weight)
    assert_close(conv(x).detach(), torch.from_numpy(expected).permute(0, 3, 1, 2))


def test_resizing_agrees_with_the_formula():
    image = np.random.default_rng(2).integers(0, 256, (37, 53, 3), np.uint8)
    resized = Preprocess(CONFIG.preprocess, 30).resize(image)
    assert_close(resized, resize_bilinear(image, 30), atol=1e-3, rtol=0)
