"""Accuracies and the confusion matrix, computed by hand."""

import numpy as np
import pytest
import torch
from torch import nn

from igcv3det.io.images import read_image
from igcv3det.tasks.classify.batches import ImageBatch
from igcv3det.tasks.classify.checkpoint import Classifier
from igcv3det.tasks.classify.config import ClassifierConfig
from igcv3det.tasks.classify.confusion_plot import draw_confusion
from igcv3det.tasks.classify.evaluation import Evaluation, evaluate
from igcv3det.tasks.classify.module import Normalise

CLASSES = 7


class ByPixel(nn.Module):
    """The logit of class k falls with the distance of the first pixel's red from k."""

    def forward(self, images):
        red = images[:, 0, 0, 0][:, None]
        return -(red - torch.arange(CLASSES)).abs()


def classifier():
    config = ClassifierConfig(CLASSES, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    return Classifier(ByPixel(), config, tuple("abcdefg"))


def batch(answers, labels):
    images = torch.tensor(answers, dtype=torch.uint8)[:, None, None, None].expand(-1, 2, 2, 3)
    return ImageBatch(images, torch.tensor(labels), np.arange(len(labels)), None)


def test_by_hand():
    batches = [batch([0, 0, 1], [0, 0, 0]), batch([6, 3, 5], [0, 3, 1])]
    found = evaluate(classifier(), batches)
    assert found.top1 == pytest.approx(3 / 6)
    # five nearest: 0 in {0..4} twice and of answer 1, not of 6; 3 in its own; 1 in {2..6}? no
    assert found.top5 == pytest.approx(4 / 6)
    assert found.images == 6
    expected = torch.zeros(7, 7, dtype=torch.int64)
    expected[0, 0], expected[0, 1], expected[0, 6], expected[3, 3], expected[1, 5] = 2, 1, 1, 1, 1
    assert torch.equal(found.confusion, expected)
    assert found.per_class == {
        "a": 0.5,
        "b": 0.0,
        "c": None,
        "d": 1.0,
        "e": None,
        "f": None,
        "g": None,
    }


def test_limit():
    seen = []
    found = evaluate(classifier(), [batch([0] * 4, [0] * 4)] * 3, limit=6, progress=seen.append)
    assert found.images == 6
    assert seen == [4, 6]


@pytest.mark.parametrize(
    ("batches", "message"), [([], "no images"), ([batch([0], [9])], "label 9")]
)
def test_refused(batches, message):
    with pytest.raises(ValueError, match=message):
        evaluate(classifier(), batches)


def test_normalisation_by_hand():
    images = torch.tensor([[[[10, 20, 30]]]], dtype=torch.uint8)
    out = Normalise((10.0, 10.0, 10.0), (1.0, 2.0, 4.0))(images)
    assert out.flatten().tolist() == [0.0, 5.0, 5.0]


@pytest.mark.parametrize("classes", [3, 60])
def test_confusion_plot(tmp_path, classes):
    counts = torch.eye(classes, dtype=torch.int64) * 5
    found = Evaluation(1.0, 1.0, counts, tuple(f"class {i}" for i in range(classes)))
    draw_confusion(found, tmp_path / "m.png")
    image = read_image(tmp_path / "m.png").astype(int)
    blue = (image[..., 2] - image[..., 0]) > 60
    assert blue.mean() > 0.003  # the diagonal is dark blue
