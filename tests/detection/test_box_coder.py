"""The coder against arithmetic by hand and torchvision's."""

import math

import pytest
import torch
from torchvision.models.detection import _utils as torchvision_utils

from igcv3det.detection.box_coder import BoxCoder

VARIANCES = (0.1, 0.1, 0.2, 0.2)
CODER = BoxCoder(VARIANCES)


def random_boxes(number, low=1.0, high=300.0):
    sizes = low + torch.rand(number, 2) * (high - low)
    corners = torch.rand(number, 2) * 320 - 20
    return torch.cat([corners, corners + sizes], dim=1)


@pytest.fixture
def oracle():
    return torchvision_utils.BoxCoder((10.0, 10.0, 5.0, 5.0))


def test_by_hand():
    anchor = torch.tensor([[0.0, 0.0, 20.0, 10.0]])
    box = torch.tensor([[5.0, 0.0, 45.0, 20.0]])
    # Centre (10, 5) -> (25, 10): 15 / 20 and 5 / 10; sides twice as long.
    expected = torch.tensor([[7.5, 5.0, 5 * math.log(2), 5 * math.log(2)]])
    torch.testing.assert_close(CODER.encode(box, anchor), expected)
    torch.testing.assert_close(CODER.decode(expected, anchor), box)


@pytest.mark.parametrize("number", [0, 1, 100])
def test_encode_equals_torchvision(oracle, number):
    boxes, anchors = random_boxes(number), random_boxes(number)
    torch.testing.assert_close(CODER.encode(boxes, anchors), oracle.encode_single(boxes, anchors))


@pytest.mark.parametrize("number", [0, 1, 100])
def test_decode_equals_torchvision_beyond_the_clamp(oracle, number):
    anchors, offsets = random_boxes(number), torch.randn(number, 4) * 15
    expected = oracle.decode_single(offsets, anchors)
    torch.testing.assert_close(CODER.decode(offsets, anchors), expected, rtol=1e-5, atol=1e-2)


@pytest.mark.parametrize("variances", [VARIANCES, (1.0, 1.0, 1.0, 1.0), (0.1, 0.2, 0.3, 0.4)])
@pytest.mark.parametrize("low", [0.01, 1.0], ids=["tiny", "usual"])
def test_round_trip(variances, low):
    coder = BoxCoder(variances)
    boxes, anchors = random_boxes(200, low), random_boxes(200, 16.0)
    decoded = coder.decode(coder.encode(boxes, anchors), anchors)
    torch.testing.assert_close(decoded, boxes, rtol=1e-4, atol=1e-3)


def test_zero_offsets_are_the_anchors():
    anchors = random_boxes(10)
    torch.testing.assert_close(CODER.decode(torch.zeros(10, 4), anchors), anchors)


def test_a_side_grows_at_most_62_and_a_half_fold():
    anchor = torch.tensor([[0.0, 0.0, 16.0, 16.0]])
    box = CODER.decode(torch.tensor([[0.0, 0.0, 1e6, 1e6]]), anchor)
    torch.testing.assert_close(box[:, 2:] - box[:, :2], torch.full((1, 2), 1000.0))


def test_leading_axes_broadcast():
    anchors, offsets = random_boxes(7), torch.randn(3, 7, 4)
    together = CODER.decode(offsets, anchors)
    torch.testing.assert_close(together, torch.stack([CODER.decode(o, anchors) for o in offsets]))


def test_half_precision_decodes_in_float32():
    anchors = random_boxes(10)
    decoded = CODER.decode(torch.zeros(10, 4, dtype=torch.float16), anchors)
    assert decoded.dtype == torch.float32
    torch.testing.assert_close(decoded, anchors)
