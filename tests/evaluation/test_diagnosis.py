"""Each usual mistake is named, and a sound result names none."""

import numpy as np
import pytest
from coco_files import coco, write_json

from igcv3det.datasets.ground_truth import read_ground_truth
from igcv3det.evaluation.diagnosis import diagnose

BOXES = {1: (20, 40, 60, 25), 2: (100, 10, 30, 70)}  # xywh in images of 200 x 100


@pytest.fixture
def truth(tmp_path):
    annotations = [(image_id, 1, box) for image_id, box in BOXES.items()]
    return read_ground_truth(write_json(tmp_path / "a.json", coco(list(BOXES), annotations)))


def rows(change=lambda x, y, w, h: (x, y, w, h), category_id=1):
    found = [(i, *change(*box), 0.9, category_id) for i, box in BOXES.items()]
    return np.array(found, dtype=np.float64)


def text(found, truth):
    return " / ".join(diagnose(found, truth, list(BOXES)))


def test_good_boxes_raise_no_suspicion(truth):
    remarks = diagnose(rows(), truth, list(BOXES))
    assert remarks == [
        "2 detections on 2 of 2 images; 2 objects on 2 images",
        "100% of the objects lie under some detection (IoU 0.5), 100% under one of their own class",
    ]


@pytest.mark.parametrize(
    ("found", "remark"),
    [
        (np.zeros((0, 7)), "nothing was detected"),
        (rows(category_id=3), "the boxes fit but the classes do not"),
        (rows(lambda x, y, w, h: (x, y, x + w, y + h)), "detections' boxes look like xyxy"),
        (rows(lambda x, y, w, h: (y, x, h, w)), "exchanged"),
        (rows(lambda x, y, w, h: (x / 200, y / 100, w / 200, h / 100)), "normalised"),
    ],
    ids=["none", "classes", "xyxy", "exchanged", "normalised"],
)
def test_mistakes_are_named(truth, found, remark):
    assert remark in text(found, truth)


def test_xyxy_annotations_are_named(tmp_path):
    wrong = [(i, 1, (x, y, x + w, y + h)) for i, (x, y, w, h) in BOXES.items()]
    truth = read_ground_truth(write_json(tmp_path / "a.json", coco(list(BOXES), wrong)))
    assert "annotations' boxes look like xyxy" in text(rows(), truth)


def test_images_that_do_not_meet(truth, tmp_path):
    elsewhere = rows()
    elsewhere[:, 0] = 3
    assert "no image has both" in " ".join(diagnose(elsewhere, truth, [1, 2, 3]))
    empty = read_ground_truth(write_json(tmp_path / "e.json", coco(list(BOXES), [])))
    assert "no objects" in text(rows(), empty)
