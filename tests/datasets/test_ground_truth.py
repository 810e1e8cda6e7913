"""Annotation files that lack fields are filled in, those that cannot be are named."""

import pytest
from coco_files import coco, write_json

from igcv3det.datasets.ground_truth import read_ground_truth, read_results


def test_missing_fields_are_filled_in_and_ids_renumbered(tmp_path):
    bare = {"image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 4]}
    path = write_json(tmp_path / "a.json", coco([1], [bare, {**bare, "id": 0}, {**bare, "id": 0}]))
    before = path.read_bytes()
    truth = read_ground_truth(path)
    assert [a["id"] for a in truth.annotations] == [1, 2, 3]
    assert {(a["area"], a["iscrowd"]) for a in truth.annotations} == {(12.0, 0)}
    assert path.read_bytes() == before


def test_given_area_and_crowd_are_kept(tmp_path):
    entry = {"image_id": 1, "category_id": 3, "bbox": [0, 0, 9, 9], "area": 5, "iscrowd": 1}
    (annotation,) = read_ground_truth(
        write_json(tmp_path / "a.json", coco([1], [entry]))
    ).annotations
    assert (annotation["area"], annotation["iscrowd"]) == (5.0, 1)


def test_images_keep_their_order_and_size(tmp_path):
    content = coco([5, 2], [])
    del content["images"][1]["width"], content["annotations"]
    truth = read_ground_truth(write_json(tmp_path / "a.json", content))
    assert list(truth.images.items()) == [(5, ("5.png", (100, 200))), (2, ("2.png", None))]
    assert truth.annotations == []


def test_annotations_of_unknown_images_and_classes_are_left_out_and_told(tmp_path, caplog):
    content = coco([1], [(1, 1, (0, 0, 5, 5)), (9, 1, (0, 0, 5, 5)), (1, 99, (0, 0, 5, 5))])
    truth = read_ground_truth(write_json(tmp_path / "a.json", content))
    assert len(truth.annotations) == 1
    assert "a.json: 2 annotations" in caplog.text


ENTRY = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 5, 5]}


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ([], "a.json: a COCO annotation file is a JSON object"),
        ({"images": []}, "a.json: has no list 'categories'"),
        (coco(["1"], []), r"images\[0\]: id must be an integer, got '1'"),
        (coco([1], [{**ENTRY, "bbox": [0, 0, 5]}]), r"annotations\[0\]: bbox must be four numbers"),
        (coco([1], [{**ENTRY, "bbox": [0, 0, 5, float("nan")]}]), "bbox must be four numbers"),
        (coco([1], [{"bbox": [0, 0, 5, 5]}]), "image_id must be an integer, got None"),
    ],
    ids=["list", "no categories", "text id", "three numbers", "nan", "no image id"],
)
def test_what_cannot_be_filled_in_is_named(tmp_path, content, complaint):
    with pytest.raises(ValueError, match=complaint):
        read_ground_truth(write_json(tmp_path / "a.json", content))


def test_missing_and_broken_files(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.json: no such file"):
        read_ground_truth(tmp_path / "none.json")
    (tmp_path / "cut.json").write_text('{"images": [')
    with pytest.raises(ValueError, match=r"cut\.json: not JSON"):
        read_ground_truth(tmp_path / "cut.json")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ({}, "is a JSON list"),
        ([3], r"\[0\] is not a detection"),
        ([{**ENTRY, "score": None}], "score must be a number"),
    ],
)
def test_results_that_are_none(tmp_path, content, complaint):
    with pytest.raises(ValueError, match=complaint):
        read_results(write_json(tmp_path / "r.json", content))
