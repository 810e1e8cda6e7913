import logging

import numpy as np
import pytest
from synthetic import ISSUES, write_coco

from igcv3det.datasets.checks import load_annotations, require_same_categories
from igcv3det.datasets.issues import AnnotationError
from igcv3det.structures import Categories

AT_DECODING = {"unreadable file", "size mismatch", "ambiguous orientation"}
AT_LOADING = sorted(ISSUES.keys() - AT_DECODING)


def annotation(bbox, **changes):
    return {"id": 1, "image_id": 11, "category_id": 3, "bbox": bbox} | changes


def test_sound_file(tmp_path, caplog):
    paths = write_coco(tmp_path)
    store, issues = load_annotations(paths.annotations, paths.images, strict=True)
    assert issues == []
    assert caplog.records == []
    assert store.categories == Categories((3, 7, 90), ("red", "green", "blue"))
    assert store.images.ids.tolist() == [11, 12, 13, 104, 105, 206]
    assert np.diff(store.starts).tolist() == [2, 0, 1, 1, 1, 2]
    assert store.labels.tolist() == [1, 2, 3, 2, 1, 3, 3]
    assert store.is_crowd.tolist() == [False] * 6 + [True]
    left, top, width, height = paths.content["annotations"][0]["bbox"]
    assert store.boxes[0].tolist() == [left, top, left + width, top + height]
    assert store.images[3][:3] == (104, "cmyk.jpg", (96, 64))


@pytest.mark.parametrize("kind", AT_LOADING)
def test_each_issue_is_found_named_and_kept_from_training(tmp_path, caplog, kind):
    paths = write_coco(tmp_path, issues=[kind])
    sound = write_coco(tmp_path / "sound")
    expected, _ = load_annotations(sound.annotations, sound.images)
    with caplog.at_level(logging.WARNING):
        store, issues = load_annotations(paths.annotations, paths.images)
    (issue,) = issues
    assert issue.kind == kind
    assert issue.file == str(paths.annotations)
    (record,) = caplog.records
    for part in (str(paths.annotations), f"1 issue (1 {kind})", issue.detail):
        assert part in record.getMessage()
    assert issue.image_id is None or f"image {issue.image_id}" in record.getMessage()
    assert len(store) == len(expected) + (kind == "duplicate file name")
    assert len(store.boxes) == len(expected.boxes) + (
        kind in ("clipped", "duplicate annotation id")
    )


@pytest.mark.parametrize("kind", AT_LOADING)
def test_strict_refuses_each_issue(tmp_path, kind):
    paths = write_coco(tmp_path, issues=[kind])
    with pytest.raises(AnnotationError, match=kind):
        load_annotations(paths.annotations, paths.images, strict=True)


def test_all_issues_together(tmp_path):
    paths = write_coco(tmp_path, issues=AT_LOADING)
    _, issues = load_annotations(paths.annotations, paths.images)
    assert sorted(issue.kind for issue in issues) == AT_LOADING
    with pytest.raises(AnnotationError, match=rf"{len(AT_LOADING)} issues \(.*\.\.\."):
        load_annotations(paths.annotations, paths.images, strict=True)


def test_issue_names_file_image_and_annotation(tmp_path):
    paths = write_coco(tmp_path, issues=["no area"])
    _, (issue,) = load_annotations(paths.annotations)
    number = paths.content["annotations"][-1]["id"]
    assert str(issue).startswith(
        f"{paths.annotations}, image 11, annotation {number}: no area: bbox"
    )
    assert (issue.image_id, issue.annotation_id) == (11, number)


@pytest.mark.parametrize(
    ("bbox", "kind"),
    [
        ([20, 20, -10, 10], "no area"),
        ([96, 0, 5, 5], "outside"),
        ([-5, 0, 5, 5], "outside"),
        ([-9.5, 0, 10, 10], "too small"),
        ([0, 63.2, 10, 10], "too small"),
    ],
)
def test_boxes_that_are_dropped(tmp_path, bbox, kind):
    paths = write_coco(tmp_path)
    good = annotation([1, 1, 5, 5], id=2)
    path = paths.rewrite(annotations=[annotation(bbox), good])
    store, (issue,) = load_annotations(path)
    assert issue.kind == kind
    assert store.boxes.tolist() == [[1, 1, 6, 6]]


@pytest.mark.parametrize(
    ("bbox", "kept", "kinds"),
    [
        ([0, 0, 96, 64], [0, 0, 96, 64], []),
        ([0, 0, 97, 64.9], [0, 0, 96, 64], []),
        ([-0.5, -1, 10, 10], [0, 0, 9.5, 9], []),
        ([90, 60, 50, 50], [90, 60, 96, 64], ["clipped"]),
        ([-10, -10, 200, 200], [0, 0, 96, 64], ["clipped"]),
        ([5, 5, 1, 1], [5, 5, 6, 6], []),
    ],
)
def test_boxes_that_are_kept(tmp_path, bbox, kept, kinds):
    path = write_coco(tmp_path).rewrite(annotations=[annotation(bbox)])
    store, issues = load_annotations(path)
    assert store.boxes.tolist() == [kept]
    assert [issue.kind for issue in issues] == kinds


def test_boxes_of_dropped_images_are_no_further_issues(tmp_path):
    paths = write_coco(tmp_path)
    (paths.images / "plain.png").unlink()
    store, (issue,) = load_annotations(paths.annotations, paths.images)
    assert (issue.kind, issue.image_id) == ("missing file", 11)
    assert len(store) == 5
    assert len(store.boxes) == 5


def test_subfolders(tmp_path):
    paths = write_coco(tmp_path)
    (paths.images / "sub").mkdir()
    (paths.images / "plain.png").rename(paths.images / "sub" / "plain.png")
    images = [dict(entry) for entry in paths.content["images"]]
    images[0]["file_name"] = "sub/plain.png"
    _, issues = load_annotations(paths.rewrite(images=images), paths.images, strict=True)
    assert issues == []


def test_wrong_folder_is_refused(tmp_path):
    paths = write_coco(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(AnnotationError, match=r"none of the 6 images .*plain\.png.*right folder"):
        load_annotations(paths.annotations, tmp_path / "empty")
    with pytest.raises(AnnotationError, match="no such folder"):
        load_annotations(paths.annotations, tmp_path / "gone")


def test_no_image_left_is_refused(tmp_path):
    with pytest.raises(AnnotationError, match="images: none is left"):
        load_annotations(write_coco(tmp_path).rewrite(images=[], annotations=[]))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, r"0 crowd regions\)"),
        ({"iscrowd": 1}, r"7 crowd regions\)"),
        ({"category_id": 5}, r"0 crowd regions, 7 unknown category\)"),
        ({"bbox": None}, r"7 bad box\)"),
        ({"bbox": [0, 0, 0, 5]}, r"7 no area\)"),
    ],
    ids=["none", "crowds", "category", "polygons only", "no area"],
)
def test_a_set_without_objects_is_refused_with_the_reason(tmp_path, caplog, change, reason):
    paths = write_coco(tmp_path)
    annotations = [item | change for item in paths.content["annotations"]] if change else []
    path = paths.rewrite(annotations=annotations)
    with pytest.raises(
        AnnotationError, match=rf"annotations: not a single object is left.*{reason}"
    ):
        load_annotations(path, paths.images)
    caplog.clear()
    store, _ = load_annotations(path, paths.images, need_objects=False)  # of a validation set
    assert len(store) == 6
    assert "nothing to measure on" in caplog.text


def test_iscrowd_null_is_an_object(tmp_path):
    paths = write_coco(tmp_path)
    annotations = [item | {"iscrowd": None} for item in paths.content["annotations"]]
    store, issues = load_annotations(paths.rewrite(annotations=annotations))
    assert issues == []
    assert store.is_crowd.tolist() == [False] * 7


def test_an_image_without_size_is_dropped_with_its_boxes(tmp_path):
    paths = write_coco(tmp_path)
    del paths.content["images"][0]["height"]
    store, (issue,) = load_annotations(paths.rewrite(), paths.images)
    assert (issue.kind, issue.image_id) == ("bad image size", 11)
    assert store.images.ids.tolist() == [12, 13, 104, 105, 206]
    assert np.diff(store.starts).tolist() == [0, 1, 1, 1, 2]


def test_files_outside_the_folder_are_used_if_allowed(tmp_path):
    paths = write_coco(tmp_path)
    images = [
        item | {"file_name": str(paths.images / item["file_name"])}
        for item in paths.content["images"]
    ]
    path = paths.rewrite(images=images)
    with pytest.raises(AnnotationError, match=r"none of the 6 images.*is absolute.*allow_outside"):
        load_annotations(path, paths.images)
    store, issues = load_annotations(path, tmp_path, allow_outside=True)
    assert (len(store), issues) == (6, [])


def test_names_in_another_form_are_those_of_the_files(tmp_path):
    paths = write_coco(tmp_path)
    (paths.images / "sub").mkdir()
    (paths.images / "plain.png").rename(paths.images / "sub" / "plain.png")
    paths.content["images"][0]["file_name"] = "sub\\plain.png"
    store, issues = load_annotations(paths.rewrite(), paths.images)
    assert issues == []
    assert store.images[0].file_name == "sub/plain.png"


def test_train_and_val_must_have_the_same_categories():
    cats = Categories((1, 2), ("cat", "dog"))
    require_same_categories(cats, "train.json", Categories((1, 2), ("cat", "dog")), "val.json")
    for other, shown in [
        (Categories((1, 2), ("cat", "cow")), "2: 'dog' and 'cow'"),
        (Categories((1,), ("cat",)), "2: 'dog' and None"),
        (Categories((1, 2, 3), ("cat", "dog", "cow")), "3: None and 'cow'"),
    ]:
        with pytest.raises(AnnotationError, match=rf"train\.json and val\.json.*{shown}"):
            require_same_categories(cats, "train.json", other, "val.json")
