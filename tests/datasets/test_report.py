import numpy as np
import pytest
import torch

from igcv3det.datasets.issues import DatasetIssue
from igcv3det.datasets.record import ImageEntry, ImageTable
from igcv3det.datasets.report import build_report, report_lines
from igcv3det.datasets.store import build_store
from igcv3det.structures import Categories

# inputs of 100 px; the anchor is a quarter of the image, at its top left
ANCHORS = torch.tensor([[0.0, 0, 50, 50]])


def store(boxes, labels, is_crowd=None, images=None, rows=None):
    count = len(boxes)
    return build_store(
        Categories((3, 8), ("cat", "dog")),
        ImageTable.of(
            images or [ImageEntry(1, "a.jpg", (200, 400)), ImageEntry(2, "b.jpg", (10, 10))]
        ),
        image_rows=np.array(rows or [0] * count, dtype=np.int32),
        boxes=np.array(boxes, dtype=np.float32).reshape(-1, 4),
        labels=np.array(labels, dtype=np.int16),
        is_crowd=np.array(is_crowd or [False] * count, dtype=np.bool_),
    )


def test_coverage_is_measured_after_stretching():
    # 400 wide, 200 high to 100: the first becomes the anchor itself, the others half of it and less
    boxes = [[0, 0, 200, 100], [0, 0, 100, 100], [0, 0, 96, 100], [300, 100, 400, 200]]
    report = build_report(store(boxes, [1, 1, 1, 2]), [], ANCHORS, 100)
    assert report.coverage == pytest.approx(2 / 4)
    assert [item.coverage for item in report.classes] == [pytest.approx(2 / 3), 0.0]


def test_sizes_have_coco_bounds():
    sides = [[0, 0, 31, 32], [0, 0, 32, 32], [0, 0, 96, 96], [0, 0, 96, 97]]
    report = build_report(store(sides, [1] * 4), [], ANCHORS, 100)
    assert (report.small, report.medium, report.large) == (1, 2, 1)


def test_crowds_and_images_without_objects_are_counted_apart():
    boxes = [[0, 0, 50, 50], [0, 0, 60, 60], [0, 0, 9, 9]]
    report = build_report(
        store(boxes, [1, 1, 2], is_crowd=[False, False, True], rows=[0, 0, 1]), [], ANCHORS, 100
    )
    assert (report.images, report.images_without_objects) == (2, 1)
    assert (report.boxes, report.crowds) == (2, 1)
    assert [(item.boxes, item.images) for item in report.classes] == [(2, 1), (0, 0)]
    assert report.classes[1].coverage is None


def test_no_boxes_at_all():
    report = build_report(store([], []), [], ANCHORS, 100)
    assert report.boxes == 0
    assert report.coverage is None
    assert any("-" in line for line in report_lines(report))


def test_issues_are_counted_and_kept():
    issues = [DatasetIssue("no area", "f.json", 1, number, "bbox") for number in (7, 8)]
    issues.append(DatasetIssue("missing file", "f.json", 2, None, "file_name"))
    report = build_report(store([], []), issues, ANCHORS, 100)
    assert report.issue_counts == {"no area": 2, "missing file": 1}
    assert report.as_dict()["issues"][1] == {
        "kind": "no area",
        "file": "f.json",
        "image_id": 1,
        "annotation_id": 8,
        "detail": "bbox",
    }
    assert "     2  no area" in list(report_lines(report))
