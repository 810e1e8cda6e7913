"""Comparisons of two detectors whose differences are known."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from igcv3det.config import DetectorConfig, PreprocessConfig
from igcv3det.io.images import write_image
from igcv3det.measure import parity
from igcv3det.runtime import ExportSpec
from igcv3det.structures import Categories, Detections, HeadOutputs

ANCHORS = torch.tensor([[0.0, 0, 10, 10], [20, 20, 60, 80], [70, 70, 90, 90]])
LOGITS = torch.tensor([[0.0, 9, 0], [0, 0, 9], [9, 0, 0]])


class Fixed:
    """A detector with known head outputs."""

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
    """The same as a file without NMS."""

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
    assert (report["confident"], report["matched"], report["extra"]) == (4, 4, 0)
    same = {"median": 0.0, "p95": 0.0, "largest": 0.0, "mean": 0.0}
    assert report["score"] == report["box_px"] == same


def test_a_shifted_box(files):
    offsets = torch.zeros(3, 4)
    offsets[1, 0] = 0.5  # times the variance 0.1 times 40 pixels of width: 2, in the image 4
    report = parity.compare_detections(Fixed(), Fixed(offsets=offsets), files)
    assert report["matched"] == 4
    assert report["box_px"]["largest"] == pytest.approx(4)
    assert report["box_px"]["mean"] == pytest.approx(4 * 2 / 8)


def test_a_detection_that_is_another_class(files):
    logits = LOGITS.clone()
    logits[0] = torch.tensor([0.0, -9, 9])
    report = parity.compare_detections(Fixed(), Fixed(logits), files)
    assert (report["confident"], report["matched"], report["extra"]) == (4, 2, 2)


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
    assert report["box_px"]["largest"] == pytest.approx(3)
    assert report["box_px"]["mean"] == pytest.approx(1.5)  # of the two boxes that score


def test_candidates_in_the_images_pixels(files):
    file = FixedFile(
        LOGITS.softmax(1)[:, 1:],
        ANCHORS * torch.tensor([2.0, 0.5, 2.0, 0.5]),
        ExportSpec(preprocessing=True),
    )
    report = parity.compare_candidates(Fixed(), file, files)
    assert report["box_px"]["largest"] == pytest.approx(0, abs=1e-4)


def test_each_detection_is_matched_once():
    twins = Detections(torch.tensor([[0.0, 0, 9, 9]] * 2), torch.tensor([0.9, 0.8]), torch.ones(2))
    one = Detections(torch.tensor([[0.0, 0, 9, 8]]), torch.tensor([0.9]), torch.ones(1))
    assert_close(parity.match_detections(twins, one), torch.tensor([0, -1]))
    assert_close(parity.match_detections(one, twins), torch.tensor([0]))


def test_quantiles():
    values = torch.arange(101.0).flip(0)
    assert parity.Difference.of([values[:40], values[40:]]) == (50, 95, 100, 50)
    assert parity.Difference.of([]) == parity.Difference.of([torch.zeros(0)]) == (None,) * 4


def a_report(p95=0.0, confident=100, matched=100, extra=0, loss=None):
    detections = {"confident": confident, "matched": matched, "extra": extra, "score": {"p95": p95}}
    return {"detections": detections, "AP": {"loss": loss}}


@pytest.mark.parametrize(
    ("report", "expected"),
    [
        (a_report(p95=None, confident=0, matched=0), []),
        (a_report(0.01), []),
        (a_report(0.03), ["scores of detections differ too much: 95th percentile 0.0300"]),
        (a_report(matched=95, extra=5), []),
        (a_report(matched=94), ["6 detections are missing, of 100 above 0.3; limit 5%"]),
        (a_report(extra=6), ["6 detections are extra"]),
        (a_report(confident=3, matched=2, extra=1), []),  # one may be decided otherwise
        (a_report(confident=3, matched=1), ["2 detections are missing"]),
        (a_report(loss=0.004), []),
        (a_report(loss=0.006), ["AP is 0.0060 below PyTorch's, limit 0.005"]),
        (a_report(0.03, loss=0.006), ["scores of detections", "AP is"]),
        ({"candidates": {"score": {"p95": 0.03}}}, ["scores of candidates"]),
    ],
)
def test_disagreements(report, expected):
    sentences = parity.disagreements(report, parity.Limits(score=0.02, unmatched=0.05))
    assert len(sentences) == len(expected)
    for sentence, beginning in zip(sentences, expected, strict=True):
        assert sentence.startswith(beginning)


def test_limits_by_precision_and_preprocessing():
    def limits(**spec):
        return parity.limits_of(FixedFile(LOGITS, spec=ExportSpec(**spec)))

    assert limits() == parity.LIMITS["fp32"]
    assert limits(preprocessing=True) == parity.RESIZING_LIMITS  # both are looser than fp32's
    assert limits(precision="int8", preprocessing=True) == parity.LIMITS["int8"]


def test_one_outlier_does_not_make_a_file_wrong(files):
    """932 of 936 matched with one difference of .3: what a good file with everything showed."""
    report = a_report(p95=0.02, confident=936, matched=932, extra=4)
    report["detections"]["score"]["largest"] = 0.3033
    assert parity.disagreements(report, parity.RESIZING_LIMITS) == []
