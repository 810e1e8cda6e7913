"""Curves, confusion matrix, types of errors and images with errors, by hand and by tidecv."""

import math

import numpy as np
import pytest
from coco_files import coco, write_json
from error_scenes import error_scene

from igcv3det.evaluation import CocoEvaluator
from igcv3det.evaluation.confusion import confusion_matrix
from igcv3det.evaluation.error_types import ERROR_TYPES
from igcv3det.structures import Categories

CAT_AND_DOG = Categories((1, 3), ("cat", "dog"))
OBJECTS = [
    (5, 1, (0, 0, 10, 10)),
    (5, 1, (50, 0, 10, 10)),
    (5, 3, (100, 0, 10, 10)),
    (5, 3, (150, 0, 20, 20)),
]
# in the order of their scores: right, and then an error of each type but the last
FOUND = [
    (1, (0, 0, 10, 10), 0.9),
    (1, (0, 0, 10, 10), 0.8),  # duplicate
    (1, (100, 0, 10, 10), 0.7),  # classification
    (1, (50, 0, 10, 4), 0.6),  # localisation, IoU 0.4
    (3, (50, 0, 10, 3), 0.5),  # both, IoU 0.3
    (1, (0, 80, 10, 10), 0.4),  # background
]


def results(found, image_id=5):
    return [
        {"image_id": image_id, "category_id": category_id, "bbox": list(box), "score": score}
        for category_id, box, score in found
    ]


def analysed(tmp_path, truth, found):
    evaluator = CocoEvaluator(write_json(tmp_path / "truth.json", truth))
    evaluator.update_results(found)
    metrics = evaluator.compute()
    return evaluator.analyse(), metrics


@pytest.fixture
def by_hand(tmp_path):
    return analysed(tmp_path, coco([5], OBJECTS, CAT_AND_DOG), results(FOUND))[0]


def test_types_of_errors_by_arithmetic(by_hand):
    errors = by_hand.errors
    # cats: one of two found first, precision 1 at the recalls 0 to 0.5; dogs: none
    assert errors.ap50 == pytest.approx(51 / 101 / 2)
    assert [errors.types[name].count for name in ERROR_TYPES] == [1] * 6
    gains = {name: kind.gain for name, kind in errors.types.items()}
    assert gains == {
        "classification": pytest.approx(51 / 101 / 2),  # the first dog is found
        "localisation": pytest.approx(25 / 101 / 2),  # the second cat, fourth of the detections
        **dict.fromkeys(["both", "duplicate", "background", "missed"], pytest.approx(0)),
    }
    assert (errors.false_positives.count, errors.false_negatives.count) == (5, 3)
    assert errors.false_positives.gain == pytest.approx(0)
    # without the objects that are not found, cats have AP 1
    assert errors.false_negatives.gain == pytest.approx(0.5 - 51 / 101 / 2)


def test_confusion_matrix_by_hand(by_hand):
    # cat, dog, background
    assert confusion_matrix(by_hand.matches, 0.45).tolist() == [[1, 0, 1], [1, 0, 1], [2, 1, 0]]
    assert confusion_matrix(by_hand.matches, 0.9).tolist() == [[1, 0, 1], [0, 0, 2], [0, 0, 0]]
    assert by_hand.threshold == 0.9
    assert by_hand.confusion.tolist() == [[1, 0, 1], [0, 0, 2], [0, 0, 0]]


def test_best_thresholds_by_hand(by_hand):
    cat, dog = by_hand.classes
    best = cat.best
    assert (best.threshold, best.precision, best.recall) == (0.9, 1, 0.5)
    assert best.f1 == pytest.approx(2 / 3)
    assert dog.best is None
    assert dog.ap50 == 0
    assert by_hand.overall.best.f1 == pytest.approx(2 / (1 + 4))
    at_half = int(np.argmin(abs(cat.thresholds - 0.5)))
    assert cat.precision_at[at_half] == pytest.approx(1 / 4)
    assert cat.recall_at[at_half] == pytest.approx(1 / 2)
    assert cat.f1_at[at_half] == pytest.approx(2 / (4 + 2))
    assert math.isnan(cat.precision_at[-1])


def test_images_with_the_most_errors_come_first(tmp_path):
    objects = [*OBJECTS, (7, 1, (0, 0, 10, 10)), (8, 1, (0, 0, 10, 10)), (8, 1, (50, 0, 9, 9))]
    found = results(FOUND) + results([(1, (0, 0, 10, 10), 0.95)], 7)
    analysis, _ = analysed(tmp_path, coco([8, 7, 5], objects, CAT_AND_DOG), found)
    shown = [(image.image_id, image.false_positives, image.missed) for image in analysis.images]
    assert analysis.threshold == 0.9
    assert shown == [(5, 0, 3), (8, 0, 2)]
    assert analysis.file_name(8) == "8.png"


def test_no_threshold_divides_equal_scores(tmp_path):
    objects = [(5, 1, (0, 0, 10, 10)), (5, 1, (50, 0, 10, 10))]
    found = [(1, (0, 0, 10, 10), 0.6), (1, (0, 50, 10, 10), 0.6), (1, (50, 0, 10, 10), 0.5)]
    analysis, _ = analysed(tmp_path, coco([5], objects), results(found))
    best = analysis.classes[0].best
    assert (best.threshold, best.recall) == (0.5, 1)
    assert best.precision == pytest.approx(2 / 3)


def test_detections_in_crowds_are_neither_right_nor_wrong(tmp_path):
    crowd = {"id": 9, "image_id": 5, "category_id": 1, "bbox": [60, 0, 90, 90], "area": 8100}
    truth = coco([5], [OBJECTS[0], {**crowd, "iscrowd": 1}])
    found = results([(1, (0, 0, 10, 10), 0.9), (1, (70, 10, 20, 20), 0.95)])
    analysis, _ = analysed(tmp_path, truth, found)
    assert analysis.errors.ap50 == 1
    assert analysis.errors.false_positives.count == 0
    assert {kind.count for kind in analysis.errors.types.values()} == {0}
    assert analysis.confusion.tolist() == [[1, 0, 0, 0], *[[0] * 4] * 3]
    assert (analysis.overall.objects, analysis.overall.detections) == (1, 1)
    assert analysis.images == []


@pytest.mark.parametrize("seed", range(4))
def test_figures_agree_with_cocos(tmp_path, seed):
    analysis, metrics = analysed(tmp_path, *error_scene(seed))
    assert analysis.errors.ap50 == pytest.approx(metrics["AP50"], abs=1e-12)
    assert analysis.overall.ap50 == pytest.approx(metrics["AP50"], abs=1e-12)
    for curves in analysis.classes:
        entry = metrics["per_class"][curves.name]
        assert curves.ap50 == pytest.approx(entry["AP50"], abs=1e-12)
        assert curves.objects == entry["ground_truths"]
    right = analysis.matches.is_right & (analysis.matches.rows.scores >= analysis.threshold)
    taken = ~analysis.matches.is_ignored & (analysis.matches.rows.scores >= analysis.threshold)
    counts = analysis.confusion
    assert counts.trace() == right.sum()
    assert counts[:, :-1].sum() == taken.sum()
    assert counts[:-1].sum(axis=1).tolist() == [curves.objects for curves in analysis.classes]
    best = analysis.overall.best
    assert (best.precision, best.recall) == (
        pytest.approx(right.sum() / taken.sum()),
        pytest.approx(right.sum() / analysis.overall.objects),
    )
    kinds = analysis.errors.types
    assert sum(kinds[name].count for name in ERROR_TYPES[:-1]) == analysis.matches.is_wrong.sum()


# TIDE().evaluate(...) of tidecv 1.0.1 on the same scenes: AP50, counts (which include detections in
# crowds) and gains in the order of ERROR_TYPES, gains of all false positives and negatives
TIDECV = {
    (0, False): (
        0.1837929249944383,
        [2, 25, 9, 11, 33, 15],
        [
            *(0.004901470539210813, 0.17064593056763247, 0.021234890442192195),
            *(0.0062227281545868965, 0.08265899330663551, 0.07375396912525858),
        ],
        (0.29805525982404346, 0.19686680491969225),
    ),
    (3, True): (
        0.21406896376809573,
        None,
        [
            *(0.028582743754355135, 0.07063688776943902, 0.005362860366698605),
            *(0.006576315045500074, 0.09922236536481745, 0.13332770886457287),
        ],
        (0.2149739405223333, 0.26530481154186236),
    ),
}


@pytest.mark.parametrize(("seed", "crowds"), TIDECV)
def test_types_of_errors_are_those_of_tidecv(tmp_path, seed, crowds):
    ap, counts, gains, special = TIDECV[seed, crowds]
    errors = analysed(tmp_path, *error_scene(seed, crowds=crowds))[0].errors
    assert errors.ap50 == pytest.approx(ap)
    if counts:
        assert [errors.types[name].count for name in ERROR_TYPES] == counts
    assert [errors.types[name].gain for name in ERROR_TYPES] == pytest.approx(gains)
    assert (errors.false_positives.gain, errors.false_negatives.gain) == pytest.approx(special)


def test_no_detections(tmp_path):
    analysis, _ = analysed(tmp_path, coco([5, 6], OBJECTS, CAT_AND_DOG), [])
    assert analysis.errors.ap50 == 0
    assert analysis.errors.types["missed"].count == 4
    assert analysis.confusion.tolist() == [[0, 0, 2], [0, 0, 2], [0, 0, 0]]
    assert analysis.overall.best is None
    assert analysis.images[0].missed == 4


def test_no_objects(tmp_path):
    analysis, _ = analysed(tmp_path, coco([5], [], CAT_AND_DOG), results(FOUND))
    assert math.isnan(analysis.errors.ap50)
    assert analysis.as_dict()["all"]["AP50"] is None
    assert analysis.confusion[-1].sum() == len(FOUND)  # no threshold is better than the default


def test_what_was_not_scored_is_refused(tmp_path):
    evaluator = CocoEvaluator(write_json(tmp_path / "truth.json", coco([5], OBJECTS)))
    with pytest.raises(ValueError, match="analyse follows compute"):
        evaluator.analyse()
