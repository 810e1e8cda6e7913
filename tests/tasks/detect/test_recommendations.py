"""Recommendations of check-data, by hand-made objects."""

import numpy as np
import pytest

from igcv3det.config import AnchorConfig, DetectorConfig, HeadConfig
from igcv3det.datasets.record import ImageEntry, ImageTable
from igcv3det.datasets.store import build_store
from igcv3det.structures import Categories
from igcv3det.tasks.detect.object_sizes import fitting_size, narrow_share
from igcv3det.tasks.detect.recommendations import recommend


def store_of(sides, is_crowd=False):
    """Objects of these sides in an image of 320 x 320 pixels."""
    boxes = [[10, 10, 10 + side, 10 + 2 * side] for side in sides]
    return build_store(
        Categories((1,), ("cat",)),
        ImageTable.of([ImageEntry(1, "a.png", (320, 320))]),
        np.zeros(len(boxes), np.int32),
        np.array(boxes, np.float32).reshape(-1, 4),
        np.ones(len(boxes), np.int16),
        np.full(len(boxes), is_crowd),
    )


def names(sides, **anchors):
    config = DetectorConfig(num_classes=1, image_size=320, anchors=AnchorConfig(**anchors))
    return [item.name for item in recommend(store_of(sides), config)]


def test_narrow_objects():
    store = store_of([11.5, 12, 100, 100])
    assert narrow_share(store, 320) == 0.25
    assert narrow_share(store, 640) == 0
    assert narrow_share(store_of([]), 320) == 0
    assert fitting_size(320, 0.25) == 320
    assert fitting_size(320, 0.26) == 480
    assert fitting_size(300, 0.26) == 448


@pytest.mark.parametrize(
    ("sides", "expected"),
    [
        ([100] * 4, []),
        ([10] * 3 + [100] * 3, ["image size", "stride 8"]),
        # fitted anchors have at least half the sides of 45 x 90 px, a map of stride 8 a quarter
        ([15] * 3 + [100] * 3, ["stride 8"]),
        ([26] * 3 + [100] * 3, []),
    ],
)
def test_what_is_recommended(sides, expected):
    assert [name for name in names(sides) if name != "anchors"] == expected


def test_what_there_is_already_is_not_recommended():
    assert "stride 8" not in names([15] * 3 + [100] * 3, stride8_scale=0.1)


def test_a_map_of_stride_8_is_not_recommended_where_it_cannot_be():
    head = HeadConfig(class_ranks=(8, *[None] * 5))
    config = DetectorConfig(num_classes=1, image_size=320, head=head)
    found = recommend(store_of([15] * 3 + [100] * 3), config)
    assert "stride 8" not in [item.name for item in found]


def test_anchors_of_unusual_shapes():
    config = DetectorConfig(num_classes=1, image_size=320)
    sides = [26] * 40  # half the smallest anchors
    found = {item.name: item.detail for item in recommend(store_of(sides), config)}
    assert "those of the detector 0.0 %" in found["anchors"]


def test_no_objects():
    config = DetectorConfig(num_classes=1, image_size=320)
    assert list(recommend(store_of([]), config)) == []
    assert list(recommend(store_of([5], is_crowd=True), config)) == []
