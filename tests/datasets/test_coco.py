"""COCO's annotation files: the record of a sound file, and what is dropped or refused of others."""

import json
import re

import numpy as np
import pytest
from coco_files import coco, write_json

from igcv3det.datasets.coco import load_categories, read_coco
from igcv3det.datasets.issues import AnnotationError
from igcv3det.datasets.record import NO_ID, ImageEntry

BOX = {"image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 4]}
IMAGE = {"id": 1, "file_name": "1.png", "width": 200, "height": 100}


def read(folder, content):
    return read_coco(write_json(folder / "a.json", content))


def kinds(record):
    return [issue.kind for issue in record.issues]


def test_the_record_is_what_the_file_says(tmp_path):
    crowd = {**BOX, "id": 8, "area": 5, "iscrowd": 1, "segmentation": {"counts": "x"}}
    scored = {**BOX, "id": 9, "category_id": 7, "bbox": [-5, 0, 0.5, 1e3], "score": 0.25}
    content = coco([5, 1], [crowd, scored])
    del content["images"][0]["width"]
    record = read(tmp_path, content)
    assert record.path == tmp_path / "a.json"
    assert (record.categories.ids, record.categories.names) == ((1, 3, 7), ("cat", "dog", "zebra"))
    assert list(record.images) == [ImageEntry(5, "5.png", None), ImageEntry(1, "1.png", (100, 200))]
    assert record.image_rows.tolist() == [1, 1]
    assert record.labels.tolist() == [2, 3]
    assert record.boxes.tolist() == [[1, 2, 3, 4], [-5, 0, 0.5, 1000]]
    assert record.areas.tolist() == [5, 500]
    assert record.is_crowd.tolist() == [True, False]
    np.testing.assert_array_equal(record.scores, np.float32([np.nan, 0.25]))
    assert record.annotation_ids.tolist() == [8, 9]
    assert kinds(record) == ["bad image size"]


@pytest.mark.parametrize("category", [{"id": 3}, {"id": 3, "name": None}])
def test_fields_that_may_be_missing(tmp_path, category):
    content = coco([1], [BOX])
    content["categories"] = [category]
    record = read(tmp_path, content)
    assert record.categories.names == ("3",)
    assert (record.areas.tolist(), record.is_crowd.tolist()) == ([12], [False])
    assert record.annotation_ids.tolist() == [NO_ID]
    assert record.issues == ()
    for nothing in ({}, {"annotations": None}):
        content = coco([1], [])
        del content["annotations"]
        assert len(read(tmp_path, content | nothing)) == 0


@pytest.mark.parametrize("number", [float, str])  # pandas and JavaScript, converters from CSV
def test_whole_numbers_of_other_types(tmp_path, number):
    one, three, zero = number(1), number(3), number(0)
    annotation = {**BOX, "image_id": one, "category_id": three, "iscrowd": zero}
    content = {
        "images": [IMAGE | {"id": one, "width": number(200), "height": number(100)}],
        "annotations": [annotation],
        "categories": [{"id": three, "name": "dog"}],
    }
    record = read(tmp_path, content)
    assert list(record.images) == [ImageEntry(1, "1.png", (100, 200))]
    assert (record.labels.tolist(), record.is_crowd.tolist()) == ([1], [False])
    assert record.issues == ()


@pytest.mark.parametrize(
    ("value", "is_crowd"),
    [(None, False), (0, False), ("0", False), (False, False), (1, True), ("1", True), (1.0, True)],
)
def test_iscrowd_of_any_type(tmp_path, value, is_crowd):
    record = read(tmp_path, coco([1], [{**BOX, "iscrowd": value}]))
    assert record.is_crowd.tolist() == [is_crowd]
    assert record.issues == ()


@pytest.mark.parametrize(
    ("entry", "kind", "detail"),
    [
        ({**BOX, "iscrowd": "yes"}, "bad annotation", r"\[0\]: iscrowd must be 0 or 1, got 'yes'"),
        ({**BOX, "iscrowd": 2}, "bad annotation", "iscrowd must be 0 or 1, got 2"),
        ({**BOX, "image_id": 9}, "unknown image", "image_id must be that of an image, got 9"),
        ({**BOX, "image_id": 2**64}, "unknown image", "got 18446744073709551616"),
        ({"bbox": [0, 0, 5, 5]}, "unknown image", "got None"),
        ({**BOX, "category_id": 99}, "unknown category", "category_id must be .*, got 99"),
        ({**BOX, "bbox": None}, "bad box", "bbox must be four finite numbers .*, got None"),
        ({**BOX, "bbox": [0, 0, 5]}, "bad box", "got "),
        ({**BOX, "bbox": [0, 0, 5, float("nan")]}, "bad box", "nan"),
        ({**BOX, "bbox": [0, 0, 5, "5"]}, "bad box", "'5'"),
        (None, "bad annotation", r"annotations\[0\]: must be an object with fields, got None"),
        (7, "bad annotation", "got 7"),
    ],
)
def test_annotations_that_are_dropped(tmp_path, entry, kind, detail):
    path = write_json(tmp_path / "a.json", coco([1], [(1, 3, (0, 0, 5, 5))]))
    content = json.loads(path.read_text())
    content["annotations"].insert(0, entry)
    record = read(tmp_path, content)
    assert record.boxes.tolist() == [[0, 0, 5, 5]]
    assert record.positions.tolist() == [1]
    (issue,) = record.issues
    assert issue.kind == kind
    assert issue.file == str(path)
    assert re.search(detail, issue.detail)


@pytest.mark.parametrize(
    ("entry", "kind"),
    [
        (None, "bad image entry"),
        ({"id": [1]}, "bad image entry"),
        ({**IMAGE, "id": True}, "bad image entry"),
        ({**IMAGE, "id": 1.5}, "bad image entry"),
        ({**IMAGE, "id": 2, "file_name": ""}, "bad image entry"),
        ({**IMAGE, "id": 2, "file_name": None}, "bad image entry"),
        ({**IMAGE, "file_name": "other.png"}, "duplicate image id"),
    ],
)
def test_images_that_are_dropped(tmp_path, entry, kind):
    content = coco([1], [(1, 3, (0, 0, 5, 5)), (2, 3, (0, 0, 5, 5))])
    content["images"].append(entry)
    record = read(tmp_path, content)
    assert list(record.images) == [ImageEntry(1, "1.png", (100, 200))]
    assert len(record) == 1
    # the box of image 2 is an issue of its own unless that image is known to be dropped
    is_known = isinstance(entry, dict) and entry.get("id") == 2
    assert kinds(record) == [kind] if is_known else [kind, "unknown image"]


def test_one_image_under_two_ids_is_kept_twice(tmp_path):
    content = coco([1], [(1, 3, (0, 0, 5, 5)), (2, 3, (0, 0, 6, 6))])
    content["images"].append({**IMAGE, "id": 2})
    record = read(tmp_path, content)
    assert record.image_rows.tolist() == [0, 1]
    (issue,) = record.issues
    assert (issue.kind, issue.image_id) == ("duplicate file name", 2)
    assert issue.detail == "file_name: 1.png is image 1 too; both are kept"


@pytest.mark.parametrize("size", [(0, 5), (-1, 5), (5, None), ("x", 5), (5.5, 5), (2**31, 5)])
def test_sizes_that_are_none(tmp_path, size):
    content = coco([1], [(1, 3, (0, 0, 5, 5))])
    content["images"][0] |= {"width": size[0], "height": size[1]}
    record = read(tmp_path, content)
    assert list(record.images) == [ImageEntry(1, "1.png", None)]
    assert len(record) == 1
    assert kinds(record) == ["bad image size"]


def test_other_annotations_of_an_id_are_kept_and_copies_dropped(tmp_path):
    first, other = {**BOX, "id": 4}, {**BOX, "id": 4, "bbox": [9, 9, 9, 9]}
    record = read(tmp_path, coco([1], [first, other, first, {**BOX, "id": 5}, BOX, BOX]))
    assert record.positions.tolist() == [0, 1, 3, 4, 5]
    assert kinds(record) == ["duplicate annotation id", "copied annotation"]
    assert [issue.annotation_id for issue in record.issues] == [4, 4]
    assert "annotations[0] has it and is the same" in record.issues[1].detail


@pytest.mark.parametrize("section", ["images", "categories"])
def test_ids_beyond_63_bits_are_refused(tmp_path, section):
    content = coco([1], [])
    content[section][0]["id"] = 2**100
    with pytest.raises(AnnotationError, match=rf"a\.json: {section}\[0\]: id {2**100} has more"):
        read(tmp_path, content)


def test_annotation_ids_may_be_anything(tmp_path):
    record = read(tmp_path, coco([1], [{**BOX, "id": own} for own in (2**100, "x-1", [], 2.0)]))
    assert record.annotation_ids.tolist() == [NO_ID, NO_ID, NO_ID, 2]
    assert record.issues == ()


@pytest.mark.parametrize("section", ["images", "annotations", "categories"])
@pytest.mark.parametrize("value", [{}, 3, "gone"])
def test_sections_must_be_lists(tmp_path, section, value):
    content = coco([1], []) | {section: value}
    if value == "gone" and section != "annotations":
        del content[section]
    with pytest.raises(AnnotationError, match=rf"a\.json: .*{section}"):
        read(tmp_path, content)


@pytest.mark.parametrize(("content", "kind"), [([], "list"), (17, "int"), (None, "NoneType")])
def test_other_json_is_refused(tmp_path, content, kind):
    with pytest.raises(AnnotationError, match=f"a COCO file is a JSON object, not a {kind}"):
        read(tmp_path, content)


@pytest.mark.parametrize(
    ("categories", "message"),
    [
        ([], "the list is empty"),
        ([{"id": 1, "name": "a"}, {"id": 1, "name": "b"}], r"\[1\]: id 1 is both 'a' and 'b'"),
        ([{"id": "x", "name": "a"}], "a whole number as id and a name"),
        ([{"id": 1, "name": 5}], "a whole number as id and a name"),
        (["a"], "a whole number as id and a name"),
    ],
)
def test_unusable_categories(tmp_path, categories, message):
    path = write_json(tmp_path / "a.json", coco([1], []) | {"categories": categories})
    for reader in (read_coco, load_categories):
        with pytest.raises(AnnotationError, match=r"a\.json: categories.*" + message):
            reader(path)


def test_categories_are_sorted_by_id_and_may_share_a_name(tmp_path):
    categories = [{"id": 9, "name": "z"}, {"id": 2, "name": "y"}, {"id": 4, "name": "z"}]
    path = write_json(tmp_path / "a.json", coco([1], [BOX]) | {"categories": categories})
    found = load_categories(path)
    assert (found.ids, found.names) == ((2, 4, 9), ("y", "z", "z"))
    record = read_coco(path)
    assert record.categories == found
    assert kinds(record) == ["duplicate category name", "unknown category"]


def test_the_file_is_never_changed(tmp_path):
    path = write_json(tmp_path / "a.json", coco([1], [BOX, {**BOX, "id": 0}, {}]))
    before = path.read_bytes()
    read_coco(path)
    assert path.read_bytes() == before
