"""Loss, IoU and schedule against PyTorch, torchmetrics, and figures worked out by hand."""

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close
from torchmetrics.classification import MulticlassConfusionMatrix, MulticlassJaccardIndex

from igcv3det.config import OptimConfig
from igcv3det.tasks.segment.config import DecayConfig, PixelLossConfig
from igcv3det.tasks.segment.evaluation import Confusion, SegmentationScores, class_ious
from igcv3det.tasks.segment.losses import PixelLoss, balanced_weights
from igcv3det.tasks.segment.masks import IGNORED
from igcv3det.tasks.segment.network import enlarge_logits, resize_logits
from igcv3det.tasks.segment.schedule import decay_factor


def noise(classes=4, size=(2, 17, 19)):
    predicted, truth = torch.randint(0, classes, (2, *size))
    truth[torch.rand(size) < 0.1] = IGNORED
    return predicted.to(torch.uint8), truth.to(torch.uint8)


def test_iou_by_hand():
    """Two of three cells of class 0 found, one wrongly: 2 / (3 + 3 - 2)."""
    confusion = Confusion(3)
    predicted = torch.tensor([[0, 0, 0], [1, 1, 1]])
    truth = torch.tensor([[0, 0, 1], [1, 1, 0]])
    confusion.add(predicted, truth)
    scores = SegmentationScores(confusion.matrix, ("a", "b", "c"), 1)
    assert scores.per_class == {"a": 0.5, "b": 0.5, "c": None}
    assert scores.miou == 0.5
    assert scores.as_json()["pixel_accuracy"] == pytest.approx(4 / 6)


@pytest.mark.parametrize("size", [(40, 33), (13, 17), (5, 6)])
def test_enlarged_logits_are_the_interpolated_ones(size):
    logits = torch.randn(2, 3, 5, 6, requires_grad=True)
    expected = resize_logits(logits, size)
    with torch.autocast("cpu", torch.bfloat16):
        found = enlarge_logits(logits, size)
    assert_close(found, expected)
    change = torch.randn_like(expected)
    slopes = [torch.autograd.grad(own, logits, change)[0] for own in (found, expected)]
    assert_close(*slopes)


def test_ignored_pixels_do_not_count():
    confusion = Confusion(2)
    confusion.add(torch.tensor([0, 1]), torch.tensor([IGNORED, 1]))
    assert confusion.matrix.tolist() == [[0, 0], [0, 1]]
    confusion.add(torch.tensor([0, 1]), torch.tensor([IGNORED, IGNORED]))
    assert confusion.matrix.sum() == 1
    assert SegmentationScores(torch.zeros(2, 2), ("a", "b"), 1).miou is None


def test_iou_against_torchmetrics():
    own, matrix = Confusion(5), MulticlassConfusionMatrix(5, ignore_index=IGNORED)
    index = MulticlassJaccardIndex(5, average="none", ignore_index=IGNORED)
    mean = MulticlassJaccardIndex(5, average="macro", ignore_index=IGNORED)
    for _ in range(3):  # class 4 never occurs
        predicted, truth = noise()
        for metric in (matrix, index, mean):
            metric.update(predicted.int(), truth.int())
        own.add(predicted, truth)
    assert own.matrix.tolist() == matrix.compute().tolist()
    assert_close(class_ious(own.matrix)[:4].float(), index.compute()[:4])
    scores = SegmentationScores(own.matrix, "abcde", 3)
    assert scores.miou == pytest.approx(float(mean.compute()), abs=1e-6)


@pytest.mark.parametrize("weights", [None, (1.0, 2.0, 0.5, 3.0)])
def test_the_loss_is_pytorchs(weights):
    logits = torch.randn(2, 4, 17, 19)
    _, truth = noise()
    loss = PixelLoss(PixelLossConfig(class_weights=weights), 4)(logits, truth)
    own = None if weights is None else torch.tensor(weights)
    assert_close(loss, F.cross_entropy(logits, truth.long(), own, ignore_index=IGNORED))


def test_a_batch_without_a_counted_pixel_has_no_loss_and_no_gradient():
    logits = torch.randn(1, 3, 4, 4, requires_grad=True)
    loss = PixelLoss(PixelLossConfig(), 3)(logits, torch.full((1, 4, 4), IGNORED))
    loss.backward()
    assert float(loss.detach()) == 0
    assert not logits.grad.any()


def test_weights_of_the_classes():
    assert balanced_weights([100, 400, 25], 1.0, 5.0).tolist() == [1.0, 0.25, 4.0]
    assert balanced_weights([100, 400, 1], 1.0, 5.0).tolist() == [1.0, 0.25, 5.0]
    assert balanced_weights([100, 0, 100], 0.5, 5.0).tolist() == [1.0, 1.0, 1.0]
    balanced = PixelLoss(PixelLossConfig(balance=1.0), 2, (300, 100))
    assert balanced.weights.tolist() == pytest.approx([200 / 300, 2.0])
    with pytest.raises(ValueError, match=r"loss\.class_weights needs 3 numbers, got 2"):
        PixelLoss(PixelLossConfig(class_weights=(1.0, 2.0)), 3)


def test_poly_decay():
    optim = OptimConfig(warmup_steps=2, warmup_start=0.5)
    factors = [decay_factor(step, 12, optim, DecayConfig()) for step in (0, 1, 2, 7, 12, 20)]
    assert factors == pytest.approx([0.5, 0.75, 1.0, 0.5**0.9, 0.0, 0.0])
    cosine = [decay_factor(step, 12, optim, DecayConfig(curve="cosine")) for step in (2, 7)]
    assert cosine == pytest.approx([1.0, 0.5])
