import json
import logging

import numpy as np
import pytest
from synthetic import FAULTS, write_coco

from igcv3det.datasets.checks import load_annotations, require_same_categories
from igcv3det.datasets.store import AnnotationError
from igcv3det.structures import Categories

AT_DECODING = {"unreadable file", "size mismatch"}
AT_LOADING = sorted(FAULTS.keys() - AT_DECODING)


def rewrite(paths, **sections):
    paths.annotations.write_text(json.dumps(paths.content | sections))
    return paths.annotations


def annotation(bbox, **changes):
    return {"id": 1, "image_id": 11, "category_id": 3, "bbox": bbox} | changes


def test_sound_file(tmp_path, caplog):
    paths = write_coco(tmp_path)
    store, faults = load_annotations(paths.annotations, paths.images, strict=True)
    assert faults == []
    assert caplog.records == []
    assert store.categories == Categories((3, 7, 90), ("red", "green", "blue"))
    assert store.image_ids.tolist() == [11, 12, 13, 104, 105, 206]
    assert np.diff(store.starts).tolist() == [2, 0, 1, 1, 1, 2]
    assert store.labels.tolist() == [1, 2, 3, 2, 1, 3, 3]
    assert store.is_crowd.tolist() == [False] * 6 + [True]
    left, top, width, height = paths.content["annotations"][0]["bbox"]
    assert store.boxes[0].tolist() == [left, top, left + width, top + height]
    assert store.image(3) == (104, "cmyk.jpg", (96, 64))


@pytest.mark.parametrize("kind", AT_LOADING)
def test_each_fault_is_found_named_and_kept_from_training(tmp_path, caplog, kind):
    paths = write_coco(tmp_path, faults=[kind])
    sound = write_coco(tmp_path / "sound")
    expected, _ = load_annotations(sound.annotations, sound.images)
    with caplog.at_level(logging.WARNING):
        store, faults = load_annotations(paths.annotations, paths.images)
    (fault,) = faults
    assert fault.kind == kind
    assert fault.file == str(paths.annotations)
    (record,) = caplog.records
    for part in (str(paths.annotations), f"1 {kind}", fault.detail, str(fault.image_id)):
        assert part in record.getMessage()
    assert len(store) == len(expected)
    assert len(store.boxes) == len(expected.boxes) + (kind == "clipped")


@pytest.mark.parametrize("kind", AT_LOADING)
def test_strict_refuses_each_fault(tmp_path, kind):
    paths = write_coco(tmp_path, faults=[kind])
    with pytest.raises(AnnotationError, match=kind):
        load_annotations(paths.annotations, paths.images, strict=True)


def test_all_faults_together(tmp_path):
    paths = write_coco(tmp_path, faults=AT_LOADING)
    _, faults = load_annotations(paths.annotations, paths.images)
    assert sorted(fault.kind for fault in faults) == AT_LOADING
    with pytest.raises(AnnotationError, match=rf"{len(AT_LOADING)} faults \(.*\.\.\."):
        load_annotations(paths.annotations, paths.images, strict=True)


def test_fault_names_file_image_and_annotation(tmp_path):
    paths = write_coco(tmp_path, faults=["no area"])
    _, (fault,) = load_annotations(paths.annotations)
    number = paths.content["annotations"][-1]["id"]
    assert str(fault).startswith(
        f"{paths.annotations}, image 11, annotation {number}: no area: bbox"
    )
    assert (fault.image_id, fault.annotation_id) == (11, number)


@pytest.mark.parametrize(
    ("bbox", "kind"),
    [
        ([1, 1, float("nan"), 5], "bad box"),
        ([1, 1, float("inf"), 5], "bad box"),
        ([1, 1, 10**400, 5], "bad box"),
        ([1, 1, "5", 5], "bad box"),
        ([1, 1, True, 5], "bad box"),
        ([1, 1, 5, 5, 5], "bad box"),
        (None, "bad box"),
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
    path = rewrite(paths, annotations=[annotation(bbox), good])
    store, (fault,) = load_annotations(path)
    assert fault.kind == kind
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
    path = rewrite(write_coco(tmp_path), annotations=[annotation(bbox)])
    store, faults = load_annotations(path)
    assert store.boxes.tolist() == [kept]
    assert [fault.kind for fault in faults] == kinds


def test_polygon_without_box(tmp_path):
    paths = write_coco(tmp_path)
    item = annotation(None, segmentation=[[1, 1, 9, 1, 9, 9]])
    del item["bbox"]
    _, (fault,) = load_annotations(rewrite(paths, annotations=[item]))
    assert fault.kind == "bad box"
    assert "got None" in fault.detail


def test_boxes_of_dropped_images_are_no_further_faults(tmp_path):
    paths = write_coco(tmp_path)
    (paths.images / "plain.png").unlink()
    store, (fault,) = load_annotations(paths.annotations, paths.images)
    assert (fault.kind, fault.image_id) == ("missing file", 11)
    assert len(store) == 5
    assert len(store.boxes) == 5


def test_wrong_entries_of_any_type_are_faults(tmp_path):
    paths = write_coco(tmp_path)
    images = [*paths.content["images"], None, 3, {"id": [1]}, {"id": 7, "file_name": ""}]
    path = rewrite(paths, images=images, annotations=[None, "x", {"id": 1, "image_id": []}])
    store, faults = load_annotations(path)
    assert len(faults) == 7
    assert len(store) == 6


def test_subfolders(tmp_path):
    paths = write_coco(tmp_path)
    (paths.images / "sub").mkdir()
    (paths.images / "plain.png").rename(paths.images / "sub" / "plain.png")
    images = [dict(entry) for entry in paths.content["images"]]
    images[0]["file_name"] = "sub/plain.png"
    _, faults = load_annotations(rewrite(paths, images=images), paths.images, strict=True)
    assert faults == []


def test_wrong_folder_is_refused(tmp_path):
    paths = write_coco(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(AnnotationError, match=r"none of the 6 images .*plain\.png.*right folder"):
        load_annotations(paths.annotations, tmp_path / "empty")
    with pytest.raises(AnnotationError, match="no such folder"):
        load_annotations(paths.annotations, tmp_path / "gone")


def test_no_image_left_is_refused(tmp_path):
    with pytest.raises(AnnotationError, match="images: none is left"):
        load_annotations(rewrite(write_coco(tmp_path), images=[], annotations=[]))


def test_file_is_never_changed(tmp_path):
    paths = write_coco(tmp_path, faults=AT_LOADING)
    before = paths.annotations.read_bytes()
    load_annotations(paths.annotations, paths.images)
    assert paths.annotations.read_bytes() == before


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
