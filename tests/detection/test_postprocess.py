"""Postprocessing against torchvision and by hand, and properties of any result."""

import dataclasses
import math
from types import SimpleNamespace

import pytest
import torch
from torchvision.models.detection import _utils as torchvision_utils
from torchvision.models.detection.ssd import SSD
from torchvision.ops import batched_nms, box_iou

from igcv3det.config import AnchorConfig, PostprocessConfig
from igcv3det.detection.anchors import generate_anchors
from igcv3det.detection.postprocess import class_scores, postprocess
from igcv3det.structures import HeadOutputs

SIZE, K = 64, 5
VARIANCES = (0.1, 0.1, 0.2, 0.2)
ANCHORS = generate_anchors(AnchorConfig(), SIZE, [(4, 4), (2, 2), (1, 1)])
A = len(ANCHORS)


def detect(outputs, original=(SIZE, SIZE), anchors=ANCHORS, activation="softmax", **config):
    sizes = [original] * len(outputs.logits)
    return postprocess(
        outputs, anchors, sizes, SIZE, PostprocessConfig(**config), activation, VARIANCES
    )


def random_outputs(batch=1, spread=2.0, offsets=0.5):
    return HeadOutputs(torch.randn(batch, A, K + 1) * spread, torch.randn(batch, A, 4) * offsets)


def torchvision_detections(outputs, config):
    ssd = SimpleNamespace(
        box_coder=torchvision_utils.BoxCoder((10.0, 10.0, 5.0, 5.0)),
        score_thresh=config.score_threshold,
        topk_candidates=config.candidates_per_class,
        nms_thresh=config.iou_threshold,
        detections_per_img=config.detections_per_image,
    )
    batch = len(outputs.logits)
    return SSD.postprocess_detections(
        ssd,
        {"bbox_regression": outputs.offsets, "cls_logits": outputs.logits},
        [ANCHORS] * batch,
        [(SIZE, SIZE)] * batch,
    )


@pytest.mark.parametrize(
    "config",
    [
        PostprocessConfig(),
        PostprocessConfig(score_threshold=0.3),
        PostprocessConfig(score_threshold=0.0, detections_per_image=1000),
        PostprocessConfig(candidates_per_class=7),
        PostprocessConfig(score_threshold=0.1, candidates_per_class=20, detections_per_image=5),
        PostprocessConfig(iou_threshold=0.05, detections_per_image=40),
        PostprocessConfig(iou_threshold=1.0, detections_per_image=300),
    ],
    ids=["default", "score-0.3", "everything", "7-each", "5-in-all", "iou-0.05", "no-nms"],
)
def test_equals_torchvision(config):
    outputs = random_outputs(3)
    ours = postprocess(outputs, ANCHORS, [(SIZE, SIZE)] * 3, SIZE, config, "softmax", VARIANCES)
    theirs = torchvision_detections(outputs, config)
    for one, other in zip(ours, theirs, strict=True):
        assert len(one) > 0
        # no two random scores are equal, so the order is the same too
        torch.testing.assert_close(one.scores, other["scores"])
        assert torch.equal(one.labels, other["labels"])
        torch.testing.assert_close(one.boxes, other["boxes"], rtol=0, atol=1e-3)


def test_wanted_classes_are_chosen_before_the_limit():
    outputs = random_outputs(2)
    config = PostprocessConfig(score_threshold=0.02, detections_per_image=8)
    everything = dataclasses.replace(config, detections_per_image=1000)
    for own in ([2, 4], [3]):
        labels = [torch.tensor(own), None]
        common = (ANCHORS, [(SIZE, SIZE)] * 2, SIZE)
        found, plain = postprocess(outputs, *common, config, "softmax", VARIANCES, labels)
        every, same = postprocess(outputs, *common, everything, "softmax", VARIANCES)
        expected = every[torch.isin(every.labels, labels[0])][:8]
        assert len(expected) == 8
        torch.testing.assert_close(found.scores, expected.scores)
        assert torch.equal(found.labels, expected.labels)
        torch.testing.assert_close(plain.scores, same.scores[:8])


def test_nms_in_rounds_equals_nms_on_all():
    # Many boxes that overlap: the first round keeps fewer than wanted.
    outputs = random_outputs(offsets=0.05, spread=3.0)
    for wanted in (1, 2, 3, 10):
        few = detect(outputs, score_threshold=0.0, iou_threshold=0.05, detections_per_image=wanted)
        many = detect(outputs, score_threshold=0.0, iou_threshold=0.05, detections_per_image=1000)
        torch.testing.assert_close(few[0].scores, many[0].scores[:wanted])
        torch.testing.assert_close(few[0].boxes, many[0].boxes[:wanted])


@pytest.mark.parametrize(
    ("activation", "expected"),
    [("softmax", [1 / 8, 3 / 8]), ("sigmoid", [1 / 2, 3 / 4])],
)
def test_scores_by_hand(activation, expected):
    logits = torch.tensor([math.log(4), 0.0, math.log(3)])
    torch.testing.assert_close(class_scores(logits, activation), torch.tensor(expected))


def one_hot_outputs(rows, offsets=None):
    """Logits that make (anchor, label, score) certain and all else background."""
    logits = torch.full((1, A, K + 1), -30.0)
    logits[..., 0] = 0
    for anchor, label, score in rows:
        logits[0, anchor, label] = math.log(score / (1 - score))
    return HeadOutputs(logits, torch.zeros(1, A, 4) if offsets is None else offsets)


def test_one_object_by_hand():
    # Anchor 0: square of 0.2 * 64 = 12.8 px around (8, 8); the original is 128 wide and 32 high.
    (found,) = detect(one_hot_outputs([(0, 4, 0.9)]), original=(32, 128))
    torch.testing.assert_close(found.boxes, torch.tensor([[3.2, 0.8, 28.8, 7.2]]))
    torch.testing.assert_close(found.scores, torch.tensor([0.9]))
    assert found.labels.tolist() == [4]
    assert found.categories is None


def test_classes_do_not_suppress_one_another():
    (found,) = detect(one_hot_outputs([(0, 1, 0.6), (0, 2, 0.7)]))
    assert sorted(found.labels.tolist()) == [1, 2]


def test_a_box_of_higher_score_suppresses_within_its_class():
    # Shapes 0 and 1 of one cell: squares of 12.8 and 19.2 px, IoU 0.444.
    outputs = one_hot_outputs([(0, 1, 0.6), (1, 1, 0.7)])
    iou = box_iou(ANCHORS[:1].clamp(0, SIZE), ANCHORS[1:2].clamp(0, SIZE)).item()
    (apart,) = detect(outputs, iou_threshold=iou + 0.01)
    (together,) = detect(outputs, iou_threshold=iou - 0.01)
    assert len(apart) == 2
    torch.testing.assert_close(together.scores, torch.tensor([0.7]))


def test_all_scores_under_the_threshold():
    (found,) = detect(one_hot_outputs([]))
    assert found.boxes.shape == (0, 4)
    assert found.scores.shape == (0,)
    assert found.labels.shape == (0,)
    assert (found.boxes.dtype, found.labels.dtype) == (torch.float32, torch.int64)


def test_threshold_is_exclusive_as_in_torchvision():
    outputs = one_hot_outputs([(0, 1, 0.5)])
    score = class_scores(outputs.logits, "softmax").max().item()
    assert len(detect(outputs, score_threshold=score)[0]) == 0
    assert len(detect(outputs, score_threshold=score - 1e-3)[0]) == 1


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("original", [(1, 1), (480, 641), (333, 7)], ids=str)
@pytest.mark.parametrize("offsets", [0.5, 30.0], ids=["near", "wild"])
def test_properties(activation, original, offsets):
    height, width = original
    outputs = random_outputs(4, offsets=offsets)
    for found in detect(outputs, original, activation=activation):
        assert 0 < len(found) <= 100
        assert (found.boxes >= 0).all()
        assert (found.boxes[:, [0, 2]] <= width).all()
        assert (found.boxes[:, [1, 3]] <= height).all()
        assert (found.scores[:-1] >= found.scores[1:]).all()
        assert ((found.scores >= 0.01) & (found.scores <= 1)).all()
        assert ((found.labels >= 1) & (found.labels <= K)).all()


def test_nms_is_idempotent():
    (found,) = detect(random_outputs(), detections_per_image=1000)
    again = batched_nms(found.boxes, found.scores, found.labels, 0.55)
    assert torch.equal(again, torch.arange(len(found)))


def test_batch_equals_one_by_one():
    outputs = random_outputs(3)
    together = detect(outputs)
    for image, found in enumerate(together):
        (alone,) = detect(HeadOutputs(*(part[image : image + 1] for part in outputs)))
        torch.testing.assert_close(
            (found.boxes, found.scores, found.labels), (alone.boxes, alone.scores, alone.labels)
        )


def test_boxes_outside_the_image_are_dropped_where_torchvision_keeps_them():
    offsets = torch.zeros(1, A, 4)
    offsets[0, 0, 0] = 1000.0  # 100 times its width to the right
    outputs = one_hot_outputs([(0, 1, 0.9), (40, 1, 0.8)], offsets)
    (found,) = detect(outputs, candidates_per_class=1)
    torch.testing.assert_close(found.scores, torch.tensor([0.8]))
    theirs = torchvision_detections(outputs, PostprocessConfig())[0]["boxes"]
    assert ((theirs[:, 2] - theirs[:, 0]) == 0).any()


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("part", ["logits", "offsets"])
def test_values_that_are_not_finite_do_not_affect_other_anchors(activation, value, part):
    outputs = one_hot_outputs([(0, 1, 0.9), (40, 1, 0.8)])
    getattr(outputs, part)[0, 0] = value
    (found,) = detect(outputs, activation=activation)
    assert found.boxes.isfinite().all()
    assert found.scores.isfinite().all()
    assert any(abs(score - 0.8) < 1e-3 for score in found.scores.tolist())


def test_nan_everywhere_gives_no_detection():
    outputs = HeadOutputs(torch.full((1, A, K + 1), math.nan), torch.full((1, A, 4), math.nan))
    assert len(detect(outputs)[0]) == 0


def test_half_precision_gives_float32():
    outputs = random_outputs()
    (found,) = detect(HeadOutputs(*(part.bfloat16() for part in outputs)))
    assert (found.boxes.dtype, found.scores.dtype) == (torch.float32, torch.float32)


def test_detections_have_no_gradient():
    outputs = HeadOutputs(*(part.requires_grad_() for part in random_outputs()))
    assert not detect(outputs)[0].scores.requires_grad
