"""COCO's results format: what is read, and what is refused by name."""

import json

import pytest

from igcv3det.datasets.issues import AnnotationError
from igcv3det.datasets.results import Result, read_results

ENTRY = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 5, 5], "score": 0.5}


def write(folder, content):
    path = folder / "r.json"
    path.write_text(json.dumps(content))
    return path


def test_results_are_read(tmp_path):
    floats = {**ENTRY, "image_id": 7.0, "category_id": "2", "segmentation": [], "score": 1}
    found = read_results(write(tmp_path, [ENTRY, floats]))
    assert found == [Result(1, 1, [0, 0, 5, 5], 0.5), Result(7, 2, [0, 0, 5, 5], 1)]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ({}, "is a JSON list"),
        ([3], r"\[0\] is not a detection but 3"),
        ([ENTRY, {**ENTRY, "score": None}], r"\[1\]: score must be a number, got None"),
        ([{**ENTRY, "score": float("nan")}], "score must be a number, got nan"),
        ([{**ENTRY, "bbox": [0, 0, 5]}], "bbox must be four finite numbers"),
        ([{**ENTRY, "bbox": [0, 0, float("inf"), 5]}], "bbox must be four finite numbers"),
        ([{**ENTRY, "image_id": "a"}], "image_id must be a whole number, got 'a'"),
        ([{**ENTRY, "category_id": 1.5}], "category_id must be a whole number, got 1.5"),
        ([{**ENTRY, "image_id": 2**64}], f"image_id: id {2**64} has more than 63 bits"),
    ],
)
def test_what_is_refused(tmp_path, content, complaint):
    with pytest.raises(AnnotationError, match=rf"r\.json.*{complaint}"):
        read_results(write(tmp_path, content))


def test_no_such_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.json: no such"):
        read_results(tmp_path / "none.json")
