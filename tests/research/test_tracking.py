"""The synthetic videos of the tracking study, and what TrackEval is given."""

import numpy as np
import pytest
import torch

from igcv3det.shapes.dataset import CATEGORIES
from igcv3det.structures import Categories, Detections
from research.tiling import _matches
from research.tracking import HEIGHT, WIDTH, _merged, _reflected, _sequence, moving_shapes


def test_a_video_is_the_same_for_the_same_seed():
    (frames, truth), (again, _) = moving_shapes(3, 4), moving_shapes(3, 4)
    assert [frame.time for frame in frames] == [0, 0.04, 0.08, 0.12]
    assert all((a.image == b.image).all() for a, b in zip(frames, again, strict=True))
    for frame, own in zip(frames, truth, strict=True):
        assert frame.image.shape == (HEIGHT, WIDTH, 3)
        assert (own.boxes >= 0).all()
        assert (own.boxes <= [WIDTH, HEIGHT, WIDTH, HEIGHT]).all()
        assert len(own.ids) == len(own.category_ids) == len(own.boxes) >= 2


def test_places_turn_back_at_the_border():
    got = [_reflected(np.array([[x, 5.0]]), np.array([100, 10]))[0, 0] for x in (-3, 50, 104, 203)]
    assert got == [3, 50, 96, 3]


def test_objects_of_other_classes_are_no_match():
    truth = moving_shapes(3, 3)[1][:1]
    boxes = torch.from_numpy(truth[0].boxes).float()
    present = truth[0].category_ids.tolist()
    ids = list(CATEGORIES)
    labels = [ids.index(present[0]) + 1, *((ids.index(i) + 1) % len(ids) + 1 for i in present[1:])]
    categories = Categories(tuple(ids), tuple(CATEGORIES.values()))
    numbers = torch.arange(len(boxes)) + 7
    found = Detections(boxes, torch.ones(len(boxes)), torch.tensor(labels), categories, numbers)
    data = _sequence(truth, [found])
    assert data["tracker_ids"][0].tolist() == list(range(len(boxes)))
    similarity = data["similarity_scores"][0]
    assert similarity[0, 0] == pytest.approx(1)
    assert similarity.diagonal()[1:].tolist() == [0] * (len(boxes) - 1)
    objects = [(i, box.tolist()) for i, box in zip(present, boxes, strict=True)]
    assert _matches(found, objects) == (1, len(boxes), len(boxes))


def test_no_tracks_at_all():
    assert len(_merged({}, Detections.empty())) == 0
