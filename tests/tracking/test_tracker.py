"""Ids follow objects: crossings, gaps, low scores, false detections, times, smoothing."""

import sys

import pytest
import torch
from coco_files import THREE

from igcv3det.structures import Detections
from igcv3det.tracking.tracker import Tracker

pytest.importorskip("scipy", reason="needs the extra igcv3det[track]")


def seen(*objects):
    """Detections of (x, score) or (x, score, label): boxes of 20 x 20 px at (x, 0)."""
    rows = [(*one, 1) if len(one) == 2 else one for one in objects]
    boxes = torch.tensor([[x, 0.0, x + 20, 20] for x, _, _ in rows]).reshape(-1, 4)
    scores = torch.tensor([score for _, score, _ in rows])
    labels = torch.tensor([label for _, _, label in rows], dtype=torch.int64)
    return Detections(boxes, scores, labels, THREE)


def shown(found):
    """{id: (x, score)} of a result."""
    xs = found.boxes[:, 0].tolist() if len(found) else []
    rows = zip(found.ids.tolist(), xs, found.scores.tolist(), strict=True)
    return {number: (round(x, 1), round(score, 3)) for number, x, score in rows}


def test_objects_of_the_first_frame_have_ids_at_once():
    tracker = Tracker(0.5)
    found = tracker.update(seen((0, 0.6), (50, 0.9)))
    assert shown(found) == {1: (0, 0.6), 2: (50, 0.9)}
    assert found.scores.tolist() == pytest.approx([0.9, 0.6])
    assert found.names == ["cat", "cat"]


def test_later_objects_have_ids_from_their_second_detection_on():
    tracker = Tracker(0.5)
    tracker.update(seen((0, 0.9)))
    assert shown(tracker.update(seen((0, 0.9), (50, 0.9)))) == {1: (0, 0.9)}
    assert shown(tracker.update(seen((0, 0.9), (52, 0.8)))) == {1: (0, 0.9), 2: (52, 0.8)}


def test_a_single_false_detection_has_no_id():
    tracker = Tracker(0.5)
    for objects in ([(0, 0.9)], [(0, 0.9), (80, 0.9)], [(0, 0.9)], [(0, 0.9)]):
        assert set(shown(tracker.update(seen(*objects)))) == {1}


def test_two_objects_cross():
    tracker = Tracker(0.5)
    for frame in range(40):
        found = shown(tracker.update(seen((3 * frame, 0.9), (120 - 3 * frame, 0.8))))
        assert found == {1: (3 * frame, 0.9), 2: (120 - 3 * frame, 0.8)}


def test_an_object_of_another_class_at_the_same_place_is_another_object():
    tracker = Tracker(0.5)
    tracker.update(seen((0, 0.9, 1)))
    tracker.update(seen((0, 0.9, 2)))
    found = tracker.update(seen((0, 0.9, 2)))
    assert found.ids.tolist() == [2]
    assert found.names == ["dog"]


def test_a_low_score_continues_a_track_and_begins_none():
    tracker = Tracker(0.6)
    tracker.update(seen((0, 0.9)))
    assert shown(tracker.update(seen((1, 0.25), (50, 0.25)))) == {1: (1, 0.25)}
    assert shown(tracker.update(seen((2, 0.19)))) == {}  # below a third of the threshold
    assert shown(tracker.update(seen((3, 0.25)))) == {}  # a lost track needs a high score
    assert shown(tracker.update(seen((4, 0.9)))) == {1: (4, 0.9)}


def test_a_high_score_takes_precedence_over_a_closer_low_one():
    tracker = Tracker(0.5)
    tracker.update(seen((0, 0.9)))
    assert shown(tracker.update(seen((0, 0.3), (5, 0.7)))) == {1: (5, 0.7)}


@pytest.mark.parametrize(("gap", "number"), [(30, 1), (31, 2)])
def test_an_object_that_returns_within_30_frames_keeps_its_id(gap, number):
    tracker = Tracker(0.5)
    tracker.update(seen((0, 0.9)))
    for _ in range(gap):
        assert len(tracker.update(seen())) == 0
    tracker.update(seen((0, 0.9)))
    assert tracker.update(seen((0, 0.9))).ids.tolist() == [number]


@pytest.mark.parametrize(("time", "number"), [(1.0, 1), (1.1, 2)])
def test_with_times_it_is_a_second(time, number):
    tracker = Tracker(0.5, fps=10)
    tracker.update(seen((0, 0.9)), 0.0)
    tracker.update(seen(), time - 0.05)
    tracker.update(seen((0, 0.9)), time)
    assert tracker.update(seen((0, 0.9)), time + 0.1).ids.tolist() == [number]


def test_an_object_moves_on_between_detections():
    tracker = Tracker(0.5)
    for frame in range(30):
        tracker.update(seen((2 * frame, 0.9)))
    for frame in range(30, 35):
        found = tracker.predict()
        assert found.ids.tolist() == [1]
        assert found.scores.tolist() == pytest.approx([0.9])
        assert found.boxes[0].tolist() == pytest.approx([2 * frame, 0, 2 * frame + 20, 20], abs=0.3)
    assert shown(tracker.update(seen((70, 0.8)))) == {1: (70, 0.8)}


def test_a_variable_frame_rate():
    """An object of constant speed is expected where it is, whatever time has passed."""
    tracker = Tracker(0.5, fps=10)
    time = 0.0
    for step in [0.1, 0.3, 0.05, 0.2, 0.1, 0.1, 0.4, 0.1, 0.3, 0.1] * 3:
        tracker.update(seen((20 * time, 0.9)), time)
        time += step
    assert shown(tracker.predict(time))[1][0] == pytest.approx(20 * time, abs=0.3)
    again = tracker.predict(time)  # the timestamp stands still
    assert shown(again)[1][0] == pytest.approx(20 * time, abs=0.3)


def test_smoothed_scores():
    """0.9; 0.9 + 0.5 (0.5 - 0.9) = 0.7; then halved at each frame without a detection."""
    tracker = Tracker(0.3, smoothing=0.5)
    assert shown(tracker.update(seen((0, 0.9)))) == {1: (0, 0.9)}
    assert shown(tracker.update(seen((0, 0.5)))) == {1: (0, 0.7)}
    assert shown(tracker.update(seen())) == {1: (0, 0.35)}
    assert shown(tracker.update(seen())) == {}
    assert shown(tracker.update(seen((0, 0.9)))) == {1: (0, 0.537)}  # 0.175 + 0.5 (0.9 - 0.175)


def test_no_objects_at_all():
    tracker = Tracker(0.5)
    for _ in range(3):
        assert len(tracker.update(seen())) == 0
        assert len(tracker.predict()) == 0
    assert tracker.update(seen()).ids.dtype == torch.int64


def test_reset_counts_from_one_again():
    tracker = Tracker(0.5)
    tracker.update(seen((0, 0.9), (50, 0.9)))
    tracker.reset()
    assert shown(tracker.update(seen((90, 0.9)))) == {1: (90, 0.9)}


@pytest.mark.parametrize("arguments", [{"threshold": 0.0}, {"smoothing": 0.0}, {"fps": -1.0}])
def test_arguments_out_of_range(arguments):
    with pytest.raises(ValueError, match=r"threshold in \(0, 1\)|smoothing must be"):
        Tracker(**arguments)


def test_without_scipy(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    with pytest.raises(ImportError, match=r"needs scipy: pip install 'igcv3det\[track\]'"):
        Tracker()
