"""Each usual mistake is named, and a sound result names none."""

import numpy as np
import pytest
from coco_files import coco, write_json

from igcv3det.datasets.coco import read_coco
from igcv3det.evaluation.diagnosis import diagnose
from igcv3det.evaluation.rows import DetectionRows, concatenate

BOXES = {1: (20, 40, 60, 25), 2: (100, 10, 30, 70)}  # xywh in images of 200 x 100


@pytest.fixture
def truth(tmp_path):
    annotations = [(image_id, 1, box) for image_id, box in BOXES.items()]
    return read_coco(write_json(tmp_path / "a.json", coco(list(BOXES), annotations)))


def rows(change=lambda x, y, w, h: (x, y, w, h), category_id=1, image_ids=(1, 2)):
    return DetectionRows(
        np.array(image_ids, dtype=np.int64),
        np.array([category_id] * 2, dtype=np.int64),
        np.array([change(*box) for box in BOXES.values()], dtype=np.float64),
        np.array([0.9, 0.9]),
    )


def text(found, truth):
    return " / ".join(diagnose(found, truth, list(BOXES)))


def test_good_boxes_are_not_diagnosed(truth):
    remarks = diagnose(rows(), truth, list(BOXES))
    assert remarks == [
        "2 detections on 2 of 2 images; 2 objects on 2 images",
        "detections cover 100% of the objects (IoU 0.5), those of the same class 100%",
    ]


def test_detections_of_other_classes_alone(truth):
    assert diagnose(concatenate([]), truth, list(BOXES), unknown_class=3) == [
        "0 detections on 0 of 2 images; 2 objects on 2 images",
        "3 detections are of classes that the data set does not have",
    ]


@pytest.mark.parametrize(
    ("found", "remark"),
    [
        (concatenate([]), "nothing was detected"),
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
    truth = read_coco(write_json(tmp_path / "a.json", coco(list(BOXES), wrong)))
    assert "annotations' boxes look like xyxy" in text(rows(), truth)


def test_images_that_do_not_meet(truth, tmp_path):
    elsewhere = rows(image_ids=(3, 3))
    assert "no image has both" in " ".join(diagnose(elsewhere, truth, [1, 2, 3]))
    empty = read_coco(write_json(tmp_path / "e.json", coco(list(BOXES), [])))
    assert "no objects" in text(rows(), empty)
