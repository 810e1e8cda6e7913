"""The comparison of two detectors, where the differences are known."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from igcv3det.config import DetectorConfig, PreprocessConfig
from igcv3det.export import parity
from igcv3det.io.images import write_image
from igcv3det.runtime import ExportSpec
from igcv3det.structures import Categories, Detections, HeadOutputs

ANCHORS = torch.tensor([[0.0, 0, 10, 10], [20, 20, 60, 80], [70, 70, 90, 90]])
LOGITS = torch.tensor([[0.0, 9, 0], [0, 0, 9], [9, 0, 0]])


class Fixed:
    """A network whose answer is known, in the shape of a detector."""

    config = DetectorConfig(num_classes=2, image_size=100, preprocess=PreprocessConfig())
    categories = Categories((1, 2), ("cat", "dog"))
    anchors = ANCHORS

    def __init__(self, logits=LOGITS, offsets=None):
        self.logits, self.offsets = logits, torch.zeros(3, 4) if offsets is None else offsets

    def __call__(self, images):
        return HeadOutputs(
            self.logits.expand(len(images), -1, -1), self.offsets.expand(len(images), -1, -1)
        )


class FixedFile:
    """The same as a file without suppression."""

    config, categories = Fixed.config, Fixed.categories

    def __init__(self, scores, boxes=ANCHORS, spec=None):
        self.spec, self.scores, self.boxes = spec or ExportSpec(), scores, boxes

    def __call__(self, images):
        return self.boxes[None], self.scores[None]

    def preprocess(self, image):
        return torch.from_numpy(image)


@pytest.fixture
def files(tmp_path):
    paths = [tmp_path / f"{index}.png" for index in range(2)]
    for path in paths:
        write_image(path, np.zeros((50, 200, 3), dtype=np.uint8))
    return paths


def test_the_same_detections(files):
    report = parity.compare_detections(Fixed(), Fixed(), files)
    assert (report["confident"], report["found"], report["added"]) == (4, 4, 0)
    assert report["score"] == report["box_px"] == {"largest": 0.0, "mean": 0.0}


def test_a_box_that_moved(files):
    offsets = torch.zeros(3, 4)
    offsets[1, 0] = 0.5  # times the variance 0.1 times 40 pixels of width: 2, in the image 4
    report = parity.compare_detections(Fixed(), Fixed(offsets=offsets), files)
    assert report["found"] == 4
    assert report["box_px"]["largest"] == pytest.approx(4)
    assert report["box_px"]["mean"] == pytest.approx(4 * 2 / 8)


def test_a_detection_that_is_another_class(files):
    logits = LOGITS.clone()
    logits[0] = torch.tensor([0.0, -9, 9])
    report = parity.compare_detections(Fixed(), Fixed(logits), files)
    assert (report["confident"], report["found"], report["added"]) == (4, 2, 2)


def test_nothing_to_find(files):
    none = Fixed(torch.tensor([[9.0, -9, -9]]).expand(3, 3))
    report = parity.compare_detections(none, none, files)
    assert (report["confident"], report["score"]["largest"]) == (0, None)


def test_candidates(files):
    scores = LOGITS.softmax(1)[:, 1:]
    wrong, moved = scores.clone(), ANCHORS.clone()
    wrong[1, 1] -= 0.25
    moved[0] += 3
    moved[2] += 50  # no anchor that scores
    report = parity.compare_candidates(Fixed(), FixedFile(wrong, moved), files)
    assert report["score"]["largest"] == pytest.approx(0.25)
    assert report["box_px"] == {"largest": pytest.approx(3), "mean": pytest.approx(1.5)}


def test_candidates_in_the_images_pixels(files):
    file = FixedFile(
        LOGITS.softmax(1)[:, 1:],
        ANCHORS * torch.tensor([2.0, 0.5, 2.0, 0.5]),
        ExportSpec(preprocessing=True),
    )
    report = parity.compare_candidates(Fixed(), file, files)
    assert report["box_px"]["largest"] == pytest.approx(0, abs=1e-4)


def test_each_detection_is_found_once():
    twins = Detections(torch.tensor([[0.0, 0, 9, 9]] * 2), torch.tensor([0.9, 0.8]), torch.ones(2))
    one = Detections(torch.tensor([[0.0, 0, 9, 8]]), torch.tensor([0.9]), torch.ones(1))
    assert_close(parity._same(twins, one), torch.tensor([0, -1]))
    assert_close(parity._same(one, twins), torch.tensor([0]))


@pytest.mark.parametrize(
    ("spec", "difference", "loss", "number"),
    [
        (ExportSpec("fp32"), 0.0001, None, 0),
        (ExportSpec("fp32"), 0.01, None, 1),
        (ExportSpec("fp16"), 0.01, None, 0),
        (ExportSpec("fp32", preprocessing=True), 0.01, None, 0),
        (ExportSpec("int8"), 0.5, 0.004, 0),
        (ExportSpec("int8"), 0.5, 0.006, 1),
        (ExportSpec("fp32"), 0.01, 0.006, 2),
        (ExportSpec("fp32"), None, None, 0),
    ],
)
def test_faults(spec, difference, loss, number):
    report = {"detections": {"score": {"largest": difference}}, "AP": {"loss": loss}}
    wrong = parity.faults(report, FixedFile(LOGITS, spec=spec))
    assert len(wrong) == number
