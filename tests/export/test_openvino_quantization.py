"""8-bit OpenVINO graphs."""

import logging

import numpy as np
import pytest
from numpy.testing import assert_allclose

from igcv3det.export.openvino_quantization import quantize_openvino

ov = pytest.importorskip("openvino")
pytest.importorskip("nncf")
opset = pytest.importorskip("openvino.opset13")


@pytest.fixture
def network():
    images = opset.parameter([1, 2, 4, 4], np.float32, name="images")
    weight = np.random.default_rng(0).standard_normal((3, 2, 1, 1)).astype(np.float32)
    outputs = opset.convolution(images, weight, [1, 1], [0, 0], [0, 0], [1, 1])
    return ov.Model([opset.relu(outputs)], [images])


def test_the_range_of_an_activation_is_that_of_all_images(network):
    inputs = [np.zeros((1, 2, 4, 4), np.float32) for _ in range(8)]
    for image in inputs:
        image[0, :, 0, :2] = [-1, 1]
    inputs[3][0, 0, 2, 2] = 9
    quantized = quantize_openvino(network, inputs)
    (first,) = (
        node
        for node in quantized.get_ops()
        if node.get_type_name() == "FakeQuantize"
        and node.input_value(0).get_node().get_type_name() == "Parameter"
    )
    low, high = (first.input_value(i).get_node().data.item() for i in (1, 2))
    assert_allclose([low, high], [-1, 9], atol=10 / 255)  # zero is one of the levels


@pytest.mark.parametrize("biased", [True, False])
def test_the_bias_of_a_depthwise_convolution_makes_up_for_its_rounded_weights(biased):
    step = np.float32(1 / 127)  # 3.4 and -2.4 steps are rounded to 3 and -2
    weight = np.array([1, 3.4 * step, -1, -2.4 * step], np.float32).reshape(2, 1, 1, 1, 2)
    bias = np.array([0.5, 0.25] if biased else [0, 0], np.float32)
    images = opset.parameter([-1, 2, 4, 4], np.float32, name="images")
    outputs = opset.group_convolution(images, weight, [1, 1], [0, 0], [0, 0], [1, 1])
    if biased:
        outputs = opset.add(outputs, bias.reshape(1, 2, 1, 1))
    means = np.array([2, -3], np.float32).reshape(1, 2, 1, 1)
    inputs = [np.broadcast_to(means * scale, (1, 2, 4, 4)) for scale in (0.5, 1.5)]
    quantized = quantize_openvino(ov.Model([outputs], [images]), inputs)
    (added,) = (node for node in quantized.get_ops() if node.get_type_name() == "Add")
    constant = added.input_value(1).get_node().data
    # -0.4 steps times a mean of 2, and +0.4 steps times a mean of -3
    expected = bias + np.array([0.8, 1.2]) * step
    assert_allclose(constant.flatten(), expected, rtol=1e-4)


def test_the_callers_log_handlers_keep_their_levels(network):
    handler = logging.NullHandler(logging.INFO)
    logger = logging.getLogger("nncf")
    logger.addHandler(handler)
    level = logger.level
    try:
        quantize_openvino(network, [np.zeros((1, 2, 4, 4), np.float32)])
        assert (logger.level, handler.level) == (level, logging.INFO)
    finally:
        logger.removeHandler(handler)


def test_nothing_is_printed(network, capfd):
    quantize_openvino(network, [np.zeros((1, 2, 4, 4), np.float32)] * 2)
    assert "Statistics" not in "".join(capfd.readouterr())
