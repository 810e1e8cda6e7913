import json

import pytest

from igcv3det.datasets.coco import load_categories, read_coco_json
from igcv3det.datasets.store import AnnotationError

SOUND = {
    "images": [{"id": 1, "file_name": "a.jpg", "width": 4, "height": 4}],
    "annotations": [{"id": 1, "image_id": 1, "segmentation": [[1, 2, 3]], "bbox": [0, 0, 1, 1]}],
    "categories": [{"id": 9, "name": "z"}, {"id": 2, "name": "y", "supercategory": "s"}],
}


def write(folder, content):
    path = folder / "instances.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_categories_are_sorted_by_id(tmp_path):
    categories = load_categories(write(tmp_path, SOUND))
    assert categories.ids == (2, 9)
    assert categories.names == ("y", "z")


def test_polygons_are_left_out(tmp_path):
    content = read_coco_json(write(tmp_path, SOUND))
    assert content["annotations"] == [{"id": 1, "image_id": 1, "bbox": [0, 0, 1, 1]}]
    assert content["images"] == SOUND["images"]


@pytest.mark.parametrize("section", ["images", "annotations", "categories"])
@pytest.mark.parametrize("value", [None, {}, "gone"])
def test_sections_must_be_lists(tmp_path, section, value):
    content = SOUND | {section: value}
    if value == "gone":
        del content[section]
    with pytest.raises(AnnotationError, match=rf"instances\.json: .*{section}"):
        read_coco_json(write(tmp_path, content))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not JSON at line 1, column 1"),
        ('{"images": [\n{"id": 1', r"not JSON at line 2, column \d+ .*is the file cut off"),
        ('{"images": [1,,2]}', r"not JSON at line 1, column 15 \(character 14 of 18\)"),
        ("[]", "must be a JSON object, got a list"),
        ("17", "must be a JSON object, got a int"),
    ],
)
def test_what_is_no_annotation_file(tmp_path, text, message):
    with pytest.raises(AnnotationError, match=r"instances\.json: " + message):
        read_coco_json(write(tmp_path, text))


def test_missing_binary_and_folder(tmp_path):
    with pytest.raises(AnnotationError, match=r"none\.json: no such"):
        read_coco_json(tmp_path / "none.json")
    with pytest.raises(AnnotationError, match="cannot be read"):
        read_coco_json(tmp_path)
    (tmp_path / "binary.json").write_bytes(b'{"images": "\xff\xfe"}')
    with pytest.raises(AnnotationError, match=r"binary\.json: not a text file"):
        read_coco_json(tmp_path / "binary.json")


@pytest.mark.parametrize(
    ("categories", "message"),
    [
        ([], "the list is empty"),
        ([{"id": 1, "name": "a"}, {"id": 1, "name": "b"}], "id 1 is both 'a' and 'b'"),
        ([{"id": 1, "name": "a"}, {"id": 2, "name": "a"}], "name 'a' occurs twice"),
        ([{"id": "1", "name": "a"}], "integer id and a name"),
        ([{"id": 1}], "integer id and a name"),
        (["a"], "integer id and a name"),
    ],
)
def test_unusable_categories(tmp_path, categories, message):
    with pytest.raises(AnnotationError, match="categories: .*" + message):
        load_categories(write(tmp_path, SOUND | {"categories": categories}))
