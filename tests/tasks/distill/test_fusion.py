import pytest
import torch
from torch.testing import assert_close

from igcv3det.structures import Categories, Detections
from igcv3det.tasks.distill.fusion import fuse

CATEGORIES = Categories.numbered(3)


def found(*rows):
    """Detections of rows (x0, y0, x1, y1, score, label)."""
    values = torch.tensor(rows, dtype=torch.float32).reshape(-1, 6)
    return Detections(values[:, :4], values[:, 4], values[:, 5].long(), CATEGORIES)


def test_agreement_is_averaged_by_score():
    fused = fuse([found((0, 0, 10, 10, 0.9, 1)), found((0, 0, 10, 12, 0.3, 1))])
    # IoU 100 / 120; y1 = (0.9 * 10 + 0.3 * 12) / 1.2, score (0.9 + 0.3) / 2
    assert_close(fused.boxes, torch.tensor([[0.0, 0.0, 10.0, 10.5]]))
    assert_close(fused.scores, torch.tensor([0.6]))
    assert fused.labels.tolist() == [1]


def test_boxes_of_one_detector_have_half_their_score():
    fused = fuse([found((0, 0, 10, 10, 0.8, 1)), found()])
    assert_close(fused.boxes, torch.tensor([[0.0, 0.0, 10.0, 10.0]]))
    assert_close(fused.scores, torch.tensor([0.4]))


def test_classes_do_not_mix_and_the_best_comes_first():
    fused = fuse([found((0, 0, 10, 10, 0.4, 1)), found((0, 0, 10, 10, 0.8, 2))])
    assert fused.labels.tolist() == [2, 1]
    assert_close(fused.scores, torch.tensor([0.4, 0.2]))
    assert fused.categories is CATEGORIES


def test_one_detector_twice_counts_as_one():
    fused = fuse([found((0, 0, 10, 10, 0.8, 1), (0, 0, 10, 11, 0.4, 1)), found()])
    assert len(fused) == 1
    assert_close(fused.scores, torch.tensor([0.3]))  # mean 0.6, one of two detectors


def test_less_overlap_than_the_threshold_stays_apart():
    boxes = [found((0, 0, 10, 10, 0.8, 1)), found((0, 0, 10, 20, 0.6, 1))]
    assert len(fuse(boxes, iou_threshold=0.6)) == 2
    assert len(fuse(boxes, iou_threshold=0.4)) == 1


def test_weak_boxes_are_left_out():
    assert len(fuse([found((0, 0, 10, 10, 0.04, 1))], score_threshold=0.05)) == 0
    alone = fuse([found((0, 0, 10, 10, 0.08, 1)), found()], score_threshold=0.05)
    assert len(alone) == 0  # 0.04 after fusion


def test_empty_inputs():
    assert len(fuse([found(), found()])) == 0
    with pytest.raises(ValueError, match="at least one detector"):
        fuse([])
