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
