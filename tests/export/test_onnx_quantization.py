"""int8 quantisation of a graph small enough to compute by hand."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

for _package in ("onnx", "onnxruntime"):
    pytest.importorskip(_package, reason="needs the extra igcv3det[export]")

import onnx  # noqa: E402
import onnx.parser  # noqa: E402
import onnxruntime  # noqa: E402

from igcv3det.export import onnx_quantization  # noqa: E402
from igcv3det.export.onnx_quantization import quantize_onnx  # noqa: E402

# Two depthwise channels; a step of 8 bits is 1/127. The small weights lie 0.4 steps off.
STEP = np.float32(1 / 127)
WEIGHT = np.array([1, 3.4 * STEP, -1, -2.4 * STEP], dtype=np.float32).reshape(2, 1, 1, 2)
TEXT = """<ir_version: 10, opset_import: ["": 18]>
    two (float[batch, 2, 4, 4] images) => (float[batch, 2, 4, 3] heads)
    <float low = {0}, float high = {6}>
    {
        convolved = Conv <group = 2> (images, weight)
        heads = Clip (convolved, low, high)
    }"""


@pytest.fixture
def network():
    model = onnx.parser.parse_model(TEXT)
    model.graph.initializer.append(onnx.numpy_helper.from_array(WEIGHT, "weight"))
    return model


def outputs_of(model, array):
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(None, {"images": array})[0]


def test_mean_shift():
    # -0.4 steps times a mean of 2, and +0.4 steps times a mean of -3 (weight -2.4 becomes -2)
    shift = onnx_quantization.mean_shift(WEIGHT, np.array([2, -3], dtype=np.float32), 127)
    assert_allclose(shift, [-0.8 * STEP, -1.2 * STEP], rtol=1e-4)


def test_mean_shift_of_a_grouped_convolution():
    weight = np.zeros((4, 2, 1, 1), dtype=np.float32)
    weight[:, 0] = 1
    weight[3, 1] = 0.25 * STEP  # rounds to 0; reads the fourth input channel
    shift = onnx_quantization.mean_shift(weight, np.array([9, 9, 9, 8], dtype=np.float32), 127)
    assert_allclose(shift, [0, 0, 0, -2 * STEP], rtol=1e-4)


def test_mean_shift_of_weights_that_are_zero():
    shift = onnx_quantization.mean_shift(np.zeros((3, 2, 1, 1), np.float32), np.ones(2), 127)
    assert_allclose(shift, np.zeros(3))


@pytest.mark.parametrize(("weight_bits", "step"), [(7, 1 / 64), (8, 1 / 127)])
def test_a_quantised_graph(network, weight_bits, step):
    random = np.random.default_rng(0)
    inputs = [random.uniform(-2, 6, (1, 2, 4, 4)).astype(np.float32) for _ in range(8)]
    for image in inputs:  # the ranges of all are the same: -2 to 6, and 0 to 6 after ReLU6
        image[0, 0, 0] = [6, 6, -2, -2]
    quantized = quantize_onnx(network, inputs, weight_bits)
    kinds = [node.op_type for node in quantized.graph.node]
    assert kinds.count("Conv") == 1
    assert "Clip" not in kinds  # the range of the 8-bit output replaces it
    assert {"QuantizeLinear", "DequantizeLinear"} <= set(kinds)
    step_out, step_in = 6.1 / 255, 8 / 255
    exact, rounded = outputs_of(network, inputs[0]), outputs_of(quantized, inputs[0])
    assert_allclose(rounded, exact, atol=step_out + step_in + 0.5 * step * 6)
    assert not np.array_equal(rounded, exact)
    assert outputs_of(quantized, np.concatenate(inputs)).shape == (8, 2, 4, 3)


def test_one_bright_image_does_not_coarsen_the_steps_of_all(network):
    inputs = [np.zeros((1, 2, 4, 4), np.float32) for _ in range(8)]
    for image in inputs:
        image[0, :, 0, :2] = [-1, 1]
    inputs[3][0, 0, 2, 2] = 9
    quantized = quantize_onnx(network, inputs)
    (first,) = (n for n in quantized.graph.node if n.input[0] == "images")
    constants = {c.name: onnx.numpy_helper.to_array(c) for c in quantized.graph.initializer}
    # the mean of the ranges is -1 to (7 * 1 + 9) / 8 = 2, in 255 steps
    assert_allclose(constants[first.input[1]], 3 / 255, rtol=1e-5)


@pytest.mark.parametrize(("weight_bits", "largest"), [(7, 64), (8, 127)])
def test_bits_of_the_weights(network, weight_bits, largest):
    random = np.random.default_rng(0)
    inputs = [random.uniform(-2, 6, (1, 2, 4, 4)).astype(np.float32) for _ in range(2)]
    quantized = quantize_onnx(network, inputs, weight_bits)
    constants = {c.name: onnx.numpy_helper.to_array(c) for c in quantized.graph.initializer}
    (weights,) = (own for own in constants.values() if own.dtype == np.int8 and own.ndim == 4)
    assert np.abs(weights.astype(int)).max() == largest


def test_seven_bits_do_not_saturate_where_two_products_are_added_in_16():
    activation, weight = 255, onnx_quantization.LEVELS[7]
    assert 2 * activation * weight <= np.iinfo(np.int16).max
    assert 2 * activation * onnx_quantization.LEVELS[8] > np.iinfo(np.int16).max
