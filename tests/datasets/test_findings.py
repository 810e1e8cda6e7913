"""Findings of a data set: leakage, classes, boxes that are wrong all in the same way."""

import numpy as np
import pytest
from coco_files import coco, write_json

from igcv3det.datasets.box_readings import (
    box_findings,
    from_centres,
    from_corners,
    transposed,
    turned,
)
from igcv3det.datasets.checks import check_record
from igcv3det.datasets.coco import read_coco
from igcv3det.datasets.findings import find_oddities
from igcv3det.datasets.near_duplicates import HashTable


def sound_boxes(count=200, seed=0):
    """Boxes inside images of 200 x 100 pixels, some at each edge."""
    random = np.random.default_rng(seed)
    sides = random.uniform(8, [150, 80], (count, 2))
    low = random.uniform(0, 1, (count, 2)).round(1) * (np.array([200, 100]) - sides)
    return np.concatenate([low, sides], axis=1)


def record_of(tmp_path, boxes, images=(1,), labels=None):
    labels = labels or [1] * len(boxes)
    annotations = [
        (images[index % len(images)], label, tuple(box))
        for index, (box, label) in enumerate(zip(np.asarray(boxes).tolist(), labels, strict=True))
    ]
    return read_coco(write_json(tmp_path / "a.json", coco(images, annotations)))


def kinds(record):
    return {found.kind: found.count for found in box_findings(record)}


def as_corners(boxes):
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def as_centres(boxes):
    return np.concatenate([boxes[:, :2] + boxes[:, 2:] / 2, boxes[:, 2:]], axis=1)


def as_shares(boxes):
    return boxes / np.array([200, 100, 200, 100])


@pytest.mark.parametrize(
    ("kind", "mistake"),
    [
        ("corners read as sides", as_corners),
        ("x and y exchanged", transposed),
        ("width and height exchanged", turned),
        ("centres read as corners", as_centres),
        ("normalised boxes", as_shares),
    ],
)
def test_each_mistake_is_named(tmp_path, kind, mistake):
    sound = sound_boxes()
    assert kinds(record_of(tmp_path, sound)) == {}
    found = kinds(record_of(tmp_path, mistake(sound)))
    assert list(found) == [kind]
    assert 20 < found[kind] <= 200


def test_readings_undo_the_mistakes():
    sound = sound_boxes(5)
    for read, mistake in (
        (from_corners, as_corners),
        (from_centres, as_centres),
        (transposed, transposed),
        (turned, turned),
    ):
        np.testing.assert_allclose(read(mistake(sound)), sound)


@pytest.mark.parametrize(("offset", "text"), [((30, 0), "(-30, 0)"), ((-25, -12), "(25, 12)")])
def test_shifted_boxes(tmp_path, offset, text):
    moved = sound_boxes() + np.array([*offset, 0, 0])
    (found,) = box_findings(record_of(tmp_path, moved))
    assert found.kind == "shifted boxes"
    assert f"moved by {text} px" in found.detail


def test_corners_in_reverse_order_are_counted_even_if_few(tmp_path):
    boxes = sound_boxes()
    boxes[3] = [50, 40, -20, -10]
    boxes[7] = [50, 40, 20, -10]
    assert kinds(record_of(tmp_path, boxes)) == {"corners in reverse order": 2}


def test_objects_that_the_image_cuts_are_no_mistake(tmp_path):
    boxes = sound_boxes()
    boxes[:30, 0] = 195  # beyond the right edge
    boxes[30:60, 1] = -4
    assert kinds(record_of(tmp_path, boxes)) == {}


def test_few_boxes_show_no_system(tmp_path):
    assert kinds(record_of(tmp_path, as_corners(sound_boxes(9)))) == {}
    assert kinds(record_of(tmp_path, np.zeros((0, 4)))) == {}


def oddities(tmp_path, labels, splits=(), images=(1, 2, 3, 4), same=()):
    """Findings where images (by row) of each group in ``same`` have one hash."""
    record = record_of(tmp_path, [[0, 0, 20, 20]] * len(labels), images, labels)
    store = check_record(record).store
    table = HashTable(len(images))
    random = np.random.default_rng(0)
    table.hashes[:] = random.integers(0, 256, table.hashes.shape)
    table.is_known[:] = True
    for group in same:
        table.hashes[list(group)] = table.hashes[group[0]]
    found = find_oddities(record, store, table, splits)
    assert all(str(item).startswith(f"{record.path}: {item.kind}: {item.count} ") for item in found)
    return {item.kind: item for item in found}


def test_near_duplicates_within_and_across_splits(tmp_path):
    splits = ["train", "train", "train", "val"]
    found = oddities(tmp_path, [1] * 80, splits, same=[(0, 1), (2, 3)])
    leak, within = found["near-duplicates in different splits"], found["near-duplicates"]
    assert leak.groups == (("3.png (train)", "4.png (val)"),)
    assert within.groups == (("1.png (train)", "2.png (train)"),)
    assert (leak.count, within.count) == (2, 2)
    assert "images in 1 group (" in leak.detail
    assert "3.png (train) = 4.png (val)" in leak.detail
    without = oddities(tmp_path, [1] * 80, same=[(0, 2, 3)])
    assert without["near-duplicates"].groups == (("1.png", "3.png", "4.png"),)
    assert "1.png = 3.png and 1 more" in without["near-duplicates"].detail


def test_a_leak_is_shown_by_images_of_two_splits(tmp_path):
    splits = ["train", "train", "val", "val"]
    found = oddities(tmp_path, [1] * 80, splits, same=[(0, 1, 2)])
    leak = found["near-duplicates in different splits"]
    assert "1.png (train) = 3.png (val) and 1 more" in leak.detail
    assert leak.count == 3
    assert "near-duplicates" not in found


def test_one_file_in_two_splits_is_a_leak_and_twice_in_one_is_not(tmp_path):
    content = coco([1, 2], [(1, 1, (0, 0, 20, 20))] * 20 + [(2, 1, (0, 0, 20, 20))] * 20)
    content["images"][1]["file_name"] = content["images"][0]["file_name"]
    record = read_coco(write_json(tmp_path / "a.json", content))
    table = HashTable(2)
    table.is_known[:] = True
    store = check_record(record).store
    assert find_oddities(record, store, table) == []
    (leak,) = find_oddities(record, store, table, ["train", "val"])
    assert leak.groups == (("1.png (train)", "1.png (val)"),)


def test_classes(tmp_path):
    labels = [1] * 200 + [3] * 20 + [7] * 19
    found = oddities(tmp_path, labels)
    assert found["class imbalance"].count == 2
    assert "'cat' (200); the rarest is 'zebra' (19, 1/11)" in found["class imbalance"].detail
    assert found["few boxes"].count == 1
    assert "'zebra'" in found["few boxes"].detail
    assert oddities(tmp_path, [1] * 199 + [3] * 20) == {}


def test_classes_that_a_split_lacks(tmp_path):
    # the boxes go to the images in turn: the only dogs are on the last, and no cat is
    labels = [1, 1, 1, 3] * 20
    found = oddities(tmp_path, labels, ["train", "train", "train", "val"])
    assert "'dog'" in found["classes missing in train"].detail
    assert "'cat'" in found["classes missing in val"].detail
