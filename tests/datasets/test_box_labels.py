import json
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from igcv3det.datasets.box_labels import (
    ImageBoxes,
    boxes_of_record,
    read_labels,
    with_annotated_boxes,
    write_labels,
)
from igcv3det.datasets.issues import AnnotationError
from igcv3det.structures import Categories

CATEGORIES = Categories((3, 7, 90), ("red", "green", "blue"))


def image(*rows):
    """Rows (x0, y0, x1, y1, label, score)."""
    values = torch.tensor(rows, dtype=torch.float32).reshape(-1, 6)
    return ImageBoxes(values[:, :4], values[:, 4].long(), values[:, 5])


def coco(images=None, annotations=None, categories=None):
    return {
        "images": images or [{"id": 5, "file_name": "a/one.png", "width": 100, "height": 50}],
        "annotations": annotations or [],
        "categories": categories or [{"id": 7, "name": "green"}],
    }


def written(folder, content):
    path = Path(folder) / "boxes.json"
    path.write_text(json.dumps(content))
    return path


def test_what_is_written_is_read(tmp_path):
    images = {
        "one.png": image((0.1, 0.2, 0.5, 0.6, 1, 0.25), (0, 0, 1, 1, 3, 1.0)),
        "two.png": image(),
    }
    sizes = {"one.png": (100, 50), "two.png": (10, 10)}
    write_labels(tmp_path / "x" / "boxes.json", images, sizes, CATEGORIES)
    found = read_labels(tmp_path / "x" / "boxes.json", CATEGORIES)
    assert found.keys() == images.keys()
    for name, own in images.items():
        assert_close(found[name], own)
    content = json.loads((tmp_path / "x" / "boxes.json").read_text())
    assert content["annotations"][0]["bbox"] == [10.0, 10.0, 40.0, 20.0]
    assert content["annotations"][0]["score"] == 0.25
    assert "score" not in content["annotations"][1]  # annotated


def test_annotated_boxes_have_score_one_and_crowds_are_left_out(tmp_path):
    box = {"image_id": 5, "category_id": 7, "bbox": [10, 10, 20, 20]}
    path = written(tmp_path, coco(annotations=[box, {**box, "iscrowd": 1}]))
    found = read_labels(path, CATEGORIES)["one.png"]
    assert_close(found.boxes, torch.tensor([[0.1, 0.2, 0.3, 0.6]]))
    assert found.labels.tolist() == [2]
    assert found.scores.tolist() == [1.0]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (coco(categories=[{"id": 7, "name": "red"}]), "the detector has no 7 'red'"),
        (
            coco(
                annotations=[{"image_id": 5, "category_id": 7, "bbox": [0, 0, 1, 1], "score": 1.5}]
            ),
            "score 1.5 is not in 0..1",
        ),
        (
            coco(
                images=[
                    {"id": n, "file_name": name, "width": 3, "height": 3}
                    for n, name in ((1, "1/x.png"), (2, "2\\x.png"))
                ]
            ),
            "'x.png' occurs twice",
        ),
    ],
    ids=["category", "score", "twice"],
)
def test_what_is_refused(tmp_path, content, complaint):
    path = written(tmp_path, content)
    with pytest.raises(AnnotationError, match=complaint) as error:
        read_labels(path, CATEGORIES)
    assert str(path) in str(error.value)


def test_the_checks_are_those_of_training_data(tmp_path, caplog):
    box = {"image_id": 5, "category_id": 7, "bbox": [90, 40, 20, 5]}
    wrong = [{**box, "image_id": 6}, {**box, "bbox": [0, 1]}, {**box, "bbox": [0, 0, 0, 5]}]
    no_size = {"id": 9, "file_name": "two.png"}
    content = coco(annotations=[box, *wrong])
    content["images"].append(no_size)
    found = read_labels(written(tmp_path, content), CATEGORIES)
    assert list(found) == ["one.png"]
    assert_close(found["one.png"].boxes, torch.tensor([[0.9, 0.8, 1.0, 0.9]]))  # clipped
    for kind in ("unknown image", "bad box", "no area", "clipped", "bad image size"):
        assert f"1 {kind}" in caplog.text


def test_annotated_boxes_replace_predicted_ones_of_their_classes_only():
    fused = {
        "one.png": image((0, 0, 0.5, 0.5, 1, 0.9), (0, 0, 1, 1, 2, 0.3)),
        "two.png": image((0, 0, 0.5, 0.5, 1, 0.9)),
    }
    true = {"one.png": image((0.2, 0.2, 0.4, 0.4, 1, 1.0))}
    merged = with_annotated_boxes(fused, true, labels=[1])
    assert merged["one.png"].labels.tolist() == [1, 2]
    assert_close(merged["one.png"].scores, torch.tensor([1.0, 0.3]))
    assert_close(merged["two.png"], fused["two.png"])


def test_an_annotated_image_without_the_class_has_none():
    fused = {"one.png": image((0, 0, 0.5, 0.5, 1, 0.9))}
    merged = with_annotated_boxes(fused, {"one.png": image()}, labels=[1])
    assert len(merged["one.png"].boxes) == 0


def test_records_of_infer():
    record = {
        "file": "one.png",
        "detections": [{"category_id": 90, "score": 0.5, "box": [1, 2, 3, 4], "label": "blue"}],
    }
    found = boxes_of_record(record, CATEGORIES)
    assert_close(found.boxes, torch.tensor([[1.0, 2.0, 3.0, 4.0]]))
    assert found.labels.tolist() == [3]
    with pytest.raises(ValueError, match=r"one\.png: lacks 'detections'"):
        boxes_of_record({"file": "one.png"}, CATEGORIES)


def test_boxes_without_area_are_left_out_of_a_record():
    boxes = ([256.0, 0.0, 256.0, 45.4], [1, 2, 3, 4], [5, 6, 7, 6])
    found = boxes_of_record(
        {
            "file": "one.png",
            "detections": [{"category_id": 90, "score": 0.5, "box": box} for box in boxes],
        },
        CATEGORIES,
    )
    assert found.boxes.tolist() == [[1, 2, 3, 4]]
    assert (len(found.scores), len(found.labels)) == (1, 1)
