"""Matching: what every box and every anchor gets, and where torchvision would differ."""

import pytest
import torch
from torchvision.models.detection._utils import SSDMatcher
from torchvision.ops import box_iou

from igcv3det.config import AnchorConfig
from igcv3det.detection.anchors import generate_anchors
from igcv3det.detection.matcher import (
    BACKGROUND,
    IGNORED,
    _all_at_once,
    _image_by_image,
    match,
    match_batch,
)

NO_BOXES = torch.zeros(0, 4)
ANCHORS_320 = generate_anchors(
    AnchorConfig(), 320, [(20, 20), (10, 10), (5, 5), (3, 3), (2, 2), (1, 1)]
)
# Three anchors in a row, 10 px squares; the second half covers the first.
ROW = torch.tensor([[0.0, 0, 10, 10], [5, 0, 15, 10], [100, 0, 110, 10]])


def random_boxes(number, smallest=4.0, largest=250.0):
    sizes = smallest + torch.rand(number, 2) ** 2 * (largest - smallest)
    corners = torch.rand(number, 2) * (320 - sizes)
    return torch.cat([corners, corners + sizes], dim=1)


def greedy_by_definition(overlap):
    """Strikes out the largest entry with its row and column, again and again."""
    overlap, claims = overlap.clone(), {}
    for _ in range(min(overlap.shape)):
        box, anchor = divmod(int(overlap.argmax()), overlap.shape[1])
        if overlap[box, anchor] <= 0:
            break
        claims[box] = anchor
        overlap[box], overlap[:, anchor] = -1, -1
    return claims


def owners(matched):
    return set(matched[matched >= 0].tolist())


@pytest.mark.parametrize(
    ("boxes", "expected"),
    [
        pytest.param([], [-1, -1, -1], id="no-objects"),
        pytest.param([[1, 0, 11, 10]], [0, -1, -1], id="one-object"),
        pytest.param([[0, 0, 15, 10]], [0, 0, -1], id="two-thirds-of-both"),
        pytest.param([[50, 50, 60, 60]], [-1, -1, -1], id="overlaps-nothing"),
        pytest.param([[10, 0, 10, 10]], [-1, -1, -1], id="touches-without-area"),
        pytest.param([[2, 2, 2, 8]], [-1, -1, -1], id="no-width"),
        pytest.param([[9, 8, 1, 2]], [-1, -1, -1], id="corners-swapped"),
        pytest.param([[float("nan"), 0, 10, 10]], [-1, -1, -1], id="not-a-number"),
        pytest.param([[0, 0, 1, 1]], [0, -1, -1], id="tiny-still-gets-one"),
        pytest.param([[0, 0, 320, 320]], [0, -1, -1], id="huge-still-gets-one"),
        pytest.param([[0, 0, 10, 10], [0, 0, 10, 10]], [0, 1, -1], id="identical"),
        pytest.param([[0, 0, 10, 10]] * 4, [0, 1, -1], id="identical-and-too-many"),
        pytest.param([[50, 50, 60, 60], [0, 0, 10, 10]], [1, -1, -1], id="one-lost-one-found"),
    ],
)
def test_small_cases(boxes, expected):
    matched = match(ROW, torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), 0.5)
    assert matched.tolist() == expected
    assert matched.dtype == torch.int64


def test_two_boxes_with_one_best_anchor_keep_an_anchor_each():
    # IoU 0.9 and 0.9 with the first anchor, then 0.8 and 0.9: the closer pair goes first.
    boxes = torch.tensor([[0.0, 0, 10, 9], [1.0, 0, 10, 10]])
    assert match(ROW, boxes, 0.95).tolist() == [0, 1, -1]
    boxes = torch.tensor([[0.0, 0, 10, 8], [0.0, 0, 10, 9]])
    assert match(ROW, boxes, 0.95).tolist() == [1, 0, -1]


@pytest.mark.parametrize("counts", [(3, 0, 7), (0, 0), (1,), (12, 12, 1, 5)], ids=str)
def test_gpu_and_cpu_agree(counts):
    boxes = [random_boxes(count) for count in counts]
    one, other = _image_by_image(boxes, ANCHORS_320), _all_at_once(boxes, ANCHORS_320)
    has_boxes = torch.tensor(counts) > 0  # the nearest of no box is anything
    assert torch.equal(one[0].iou, other[0].iou)
    assert torch.equal(one[0].box[has_boxes], other[0].box[has_boxes])
    for a, b in zip(one[1], other[1], strict=True):
        assert torch.equal(a, b)
    assert one[2] == other[2]


def test_torchvision_would_lose_the_first_of_them():
    boxes = torch.tensor([[0.0, 0, 10, 9], [0.0, 0, 10, 8]])
    theirs = SSDMatcher(0.5)(box_iou(boxes, ROW))
    assert owners(theirs) == {1}
    assert owners(match(ROW, boxes, 0.5)) == {0, 1}


def test_torchvision_would_force_anchor_0_on_a_box_that_overlaps_nothing():
    nowhere = torch.tensor([[50.0, 50, 60, 60]])
    assert SSDMatcher(0.5)(box_iou(nowhere, ROW)).tolist() == [0, -1, -1]
    assert match(ROW, nowhere, 0.5).tolist() == [-1, -1, -1]


def test_equals_torchvision_where_best_anchors_differ():
    compared = 0
    for _ in range(40):
        boxes = random_boxes(5)
        overlap = box_iou(boxes, ANCHORS_320)
        if overlap.argmax(dim=1).unique().numel() < len(boxes):
            continue
        compared += 1
        assert torch.equal(match(ANCHORS_320, boxes, 0.5), SSDMatcher(0.5)(overlap))
    assert compared > 20


@pytest.mark.parametrize("number", [2, 10, 60])
def test_claims_equal_the_definition(number):
    boxes = random_boxes(number, largest=60.0)
    expected = greedy_by_definition(box_iou(boxes, ANCHORS_320))
    matched = match(ANCHORS_320, boxes, 1.0)  # only claims: no other anchor reaches IoU 1
    found = {int(matched[a]): int(a) for a in torch.nonzero(matched >= 0)[:, 0]}
    assert found == expected


@pytest.mark.parametrize("number", [2, 5])
def test_of_equal_overlaps_the_earlier_anchor_is_claimed(number):
    """The box covers whole cells of a grid, so that many anchors overlap it alike."""
    corners = torch.cartesian_prod(torch.arange(8.0), torch.arange(8.0)).flip(1) * 10
    anchors = torch.cat([corners, corners + 10], dim=1)
    boxes = torch.tensor([[40.0, 30, 70, 60]]).repeat(number, 1)
    expected = greedy_by_definition(box_iou(boxes, anchors))
    matched = match(anchors, boxes, 1.0)
    assert {int(matched[a]): int(a) for a in torch.nonzero(matched >= 0)[:, 0]} == expected


@pytest.mark.parametrize("largest", [6.0, 40.0, 320.0], ids=["tiny", "small", "any"])
def test_every_box_owns_an_anchor(largest):
    boxes = random_boxes(100, smallest=0.5, largest=largest)
    assert owners(match(ANCHORS_320, boxes, 0.5)) == set(range(100))


def test_whole_image_owns_an_anchor():
    assert 0 in match(ANCHORS_320, torch.tensor([[0.0, 0, 320, 320]]), 0.5)


def test_matched_anchors_reach_the_threshold_or_are_claims():
    boxes = random_boxes(12)
    matched = match(ANCHORS_320, boxes, 0.5)
    iou, nearest = box_iou(boxes, ANCHORS_320).max(dim=0)
    over = iou >= 0.5
    assert (matched[over] >= 0).all()
    assert (matched[over] != nearest[over]).sum() + (matched[~over] >= 0).sum() <= len(boxes)


def test_permuting_boxes_permutes_matches():
    boxes, order = random_boxes(30), torch.randperm(30)
    before, after = match(ANCHORS_320, boxes, 0.5), match(ANCHORS_320, boxes[order], 0.5)
    positive = before >= 0
    assert torch.equal(positive, after >= 0)
    assert torch.equal(before[positive], order[after[positive]])


def test_crowd_ignores_background_only():
    crowds = torch.tensor([[0.0, 0, 15, 10]])
    boxes = torch.tensor([[0.0, 0, 10, 10]])
    assert match(ROW, boxes, 0.5, crowds).tolist() == [0, IGNORED, BACKGROUND]
    assert match(ROW, NO_BOXES, 0.5, crowds).tolist() == [IGNORED, IGNORED, BACKGROUND]


@pytest.mark.parametrize(("right", "expected"), [(105.0, BACKGROUND), (105.1, IGNORED)])
def test_crowd_needs_more_than_its_share_of_the_anchor(right, expected):
    crowds = torch.tensor([[100.0, -50, right, 50]])
    assert match(ROW, NO_BOXES, 0.5, crowds, crowd_ioa=0.5)[2] == expected


def test_crowds_do_not_add_up():
    halves = torch.tensor([[100.0, 0, 105, 10], [105.0, 0, 110, 10]])
    assert match(ROW, NO_BOXES, 0.5, halves)[2] == BACKGROUND


def test_batch_equals_one_by_one():
    boxes = [random_boxes(8), NO_BOXES, random_boxes(1), random_boxes(40, largest=30.0)]
    crowds = [NO_BOXES, random_boxes(1, smallest=100.0), NO_BOXES, random_boxes(2, smallest=50.0)]
    together = match_batch(ANCHORS_320, boxes, 0.5, crowds, 0.5)
    alone = [match(ANCHORS_320, b, 0.5, c) for b, c in zip(boxes, crowds, strict=True)]
    assert torch.equal(together, torch.stack(alone))
    assert (together == IGNORED).any()


def test_batch_without_any_box():
    assert (match_batch(ANCHORS_320, [NO_BOXES, NO_BOXES], 0.5) == BACKGROUND).all()
