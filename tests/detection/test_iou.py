"""IoU against torchvision and by hand."""

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou as torchvision_iou

from igcv3det.detection.iou import box_area, box_intersection, box_iou


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_to_torchvision(dtype):
    corners = torch.rand(70, 2, dtype=dtype) * 100
    boxes = torch.cat([corners, corners + 0.1 + 60 * torch.rand(70, 2, dtype=dtype)], dim=1)
    expected = torchvision_iou(boxes[:30], boxes[30:])
    assert 0 < (expected > 0).float().mean() < 1
    torch.testing.assert_close(box_iou(boxes[:30], boxes[30:]), expected, rtol=0, atol=0)
    arrays = boxes.numpy()
    np.testing.assert_array_equal(box_iou(arrays[:30], arrays[30:]), expected.numpy())


@pytest.fixture(params=[torch.tensor, np.array], ids=["torch", "numpy"])
def boxes(request):
    return request.param


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ([0, 0, 10, 10], 1.0),
        ([5, 0, 15, 10], 1 / 3),
        ([2, 2, 4, 12], 16 / 104),
        ([10, 0, 20, 10], 0.0),  # touches
        ([3, 3, 3, 8], 0.0),  # no width
        ([9, 8, 1, 2], 0.0),  # corners exchanged
        ([float("nan"), 0, 10, 10], 0.0),
    ],
)
def test_by_hand(boxes, box, expected):
    first, second = boxes([[0.0, 0, 10, 10]]), boxes([[float(value) for value in box]])
    assert box_iou(first, second).item() == pytest.approx(expected)
    assert box_iou(second, first).item() == pytest.approx(expected)


def test_a_point_has_no_iou_with_itself(boxes):
    point = boxes([[3.0, 3, 3, 3]])
    assert box_iou(point, point).item() == 0


def test_intersection_and_area_by_hand(boxes):
    first, second = boxes([[0.0, 0, 10, 4]]), boxes([[6.0, 1, 20, 30]])
    assert box_intersection(first, second).item() == 12
    assert (box_area(first).item(), box_area(second).item()) == (40, 406)


def test_no_boxes(boxes):
    some = boxes([[0.0, 0, 1, 1]] * 3)
    none = some[:0]
    assert box_iou(none, some).shape == (0, 3)
    assert box_iou(some, none).shape == (3, 0)
