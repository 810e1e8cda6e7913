"""Tiles cover the image, and an object is found once wherever tiles cut it."""

import itertools

import numpy as np
import pytest
import torch
from coco_files import THREE

from igcv3det.detection.tiles import TileDetector, merge_tiles, tile_windows
from igcv3det.structures import Detections

IOU = 0.5


@pytest.mark.parametrize(
    ("height", "width", "size", "overlap", "count"),
    [
        (100, 100, 100, 0.2, 1),
        (99, 40, 100, 0.2, 1),
        (100, 101, 100, 0.2, 2),
        (100, 180, 100, 0.2, 2),  # 80 px apart
        (100, 181, 100, 0.2, 3),
        (3000, 4000, 640, 0.2, 6 * 8),  # 512 px apart: (3000 - 640) / 512 + 1 = 5.6
        (300, 300, 100, 0.0, 9),
        (50, 50, 16, 0.99, 35 * 35),
    ],
)
def test_windows(height, width, size, overlap, count):
    windows = tile_windows(height, width, size, overlap)
    assert len(windows) == len(set(windows)) == count
    covered = np.zeros((height, width), bool)
    for left, top, right, bottom in windows:
        assert (right - left, bottom - top) == (min(size, width), min(size, height))
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
        covered[top:bottom, left:right] = True
    assert covered.all()
    for starts in (sorted({w[0] for w in windows}), sorted({w[1] for w in windows})):
        assert all(
            b - a <= size * (1 - overlap) or b - a == 1 for a, b in itertools.pairwise(starts)
        )


def seen(objects, window, score=0.9, label=1):
    """What a perfect detector sees of objects [N, 4] of the image in a tile: boxes of the tile."""
    boxes = np.array(objects, np.float32).reshape(-1, 4) - np.tile(window[:2], 2)
    size = window[2] - window[0], window[3] - window[1]
    boxes = boxes.clip(0, np.tile(size, 2))
    inside = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    boxes = torch.from_numpy(boxes[inside]).float()
    count = len(boxes)
    labels = torch.full((count,), label, dtype=torch.int64)
    scores = torch.full((count,), score) - 0.01 * torch.arange(count)
    return Detections(boxes, scores, labels, THREE)


def merged(objects, windows, size):
    return merge_tiles([seen(objects, window) for window in windows], windows, size, IOU)


OBJECTS = {
    "none": [],
    "whole in both tiles": [[85, 10, 95, 20]],
    "whole in one tile, cut in the other": [[60, 10, 95, 60]],
    "cut by both tiles": [[60, 10, 140, 60]],
    "larger than a tile": [[10, 10, 175, 90]],
    "side by side, apart in the strip": [[50, 0, 98, 40], [82, 50, 130, 90]],
    "one above the other, both cut": [[40, 0, 140, 45], [40, 50, 140, 95]],
    "at the border of a tile": [[70, 10, 100, 60], [80, 70, 110, 90]],
    "the whole image": [[0, 0, 180, 100]],
}


@pytest.mark.parametrize("objects", OBJECTS.values(), ids=OBJECTS)
def test_each_object_is_found_once(objects):
    windows = tile_windows(100, 180, 100, 0.2)
    found = merged(objects, windows, (100, 180))
    assert sorted(found.boxes.tolist()) == sorted(map(list, objects))


@pytest.mark.parametrize("seed", range(5))
def test_random_objects_are_found_once(seed):
    """Of several classes, so that they may overlap; objects of a class do not."""
    random = np.random.default_rng(seed)
    windows = tile_windows(500, 700, 200, 0.25)
    found, truth = [], []
    for label in (1, 2, 3):
        objects = []
        for _ in range(30):
            left, top = random.integers(0, 600), random.integers(0, 400)
            box = [left, top, left + random.integers(20, 400), top + random.integers(20, 400)]
            box = np.minimum(box, [700, 500, 700, 500]).tolist()
            if all(
                b[0] > box[2] + 9 or b[2] + 9 < box[0] or b[1] > box[3] + 9 or b[3] + 9 < box[1]
                for b in objects
            ):
                objects.append(box)
        truth += [(label, *box) for box in objects]
        found.append([seen(objects, window, label=label) for window in windows])
    tiles = [
        Detections(
            torch.cat([one.boxes for one in own]),
            torch.cat([one.scores for one in own]),
            torch.cat([one.labels for one in own]),
            THREE,
        )
        for own in zip(*found, strict=True)
    ]
    got = merge_tiles(tiles, windows, (500, 700), IOU)
    assert sorted(zip(got.labels.tolist(), *got.boxes.int().T.tolist(), strict=True)) == sorted(
        truth
    )


def test_a_joined_box_has_the_best_score_of_its_parts():
    windows = tile_windows(100, 180, 100, 0.2)
    tiles = [seen([[60, 10, 140, 60]], w, s) for w, s in zip(windows, (0.4, 0.7), strict=True)]
    found = merge_tiles(tiles, windows, (100, 180), IOU)
    assert found.scores.tolist() == pytest.approx([0.7])
    assert found.categories is THREE


def test_parts_of_different_classes_stay_apart():
    windows = tile_windows(100, 180, 100, 0.2)
    tiles = [seen([[60, 10, 140, 60]], w, label=n) for n, w in enumerate(windows, 1)]
    assert len(merge_tiles(tiles, windows, (100, 180), IOU)) == 2


def test_the_limit_keeps_the_best():
    windows = [(0, 0, 100, 100), (80, 0, 180, 100)]
    tiles = [seen([[5, 5, 20, 20], [30, 5, 50, 20]], w) for w in windows]
    found = merge_tiles(tiles, windows, (100, 180), IOU, limit=1)
    assert found.scores.tolist() == pytest.approx([0.9])


def test_an_image_is_detected_in_tiles_and_as_a_whole():
    asked = []

    def detect(images):
        asked.extend(image.shape[:2] for image in images)
        return [Detections.empty(THREE) for _ in images]

    images = [np.zeros((100, 180, 3), np.uint8), np.zeros((40, 90, 3), np.uint8)]
    assert [len(found) for found in TileDetector(100, IOU)(images, detect)] == [0, 0]
    assert asked == [(100, 100), (100, 100), (100, 180), (40, 90)]


def test_tiles_too_small():
    with pytest.raises(ValueError, match="tile must be >= 16 pixels, got 15"):
        TileDetector(15, IOU)
