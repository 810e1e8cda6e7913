import numpy as np

from igcv3det.datasets.record import ImageEntry, ImageTable
from igcv3det.datasets.store import build_store
from igcv3det.structures import Categories

MIB = 2**20


def test_boxes_are_grouped_by_image_in_their_order():
    images = [
        ImageEntry(7, "a/ä.jpg", (10, 20)),
        ImageEntry(3, "b.jpg", (30, 40)),
        ImageEntry(5, "\udcff.jpg", (1, 2)),
    ]
    boxes = np.arange(16, dtype=np.float32).reshape(4, 4)
    store = build_store(
        Categories((1, 4), ("x", "y")),
        ImageTable.of(images),
        image_rows=np.array([2, 0, 2, 0], dtype=np.int32),
        boxes=boxes,
        labels=np.array([1, 2, 1, 1], dtype=np.int16),
        is_crowd=np.array([False, False, True, False]),
    )
    assert len(store) == 3
    assert list(store.images) == images
    assert store.rows(1) == slice(2, 2)
    np.testing.assert_array_equal(store.boxes[store.rows(0)], boxes[[1, 3]])
    np.testing.assert_array_equal(store.boxes[store.rows(2)], boxes[[0, 2]])
    assert store.labels[store.rows(0)].tolist() == [2, 1]
    assert store.is_crowd[store.rows(2)].tolist() == [False, True]


def test_no_boxes_and_no_images():
    none = np.zeros(0, dtype=np.int32)
    columns = (np.zeros((0, 4), np.float32), none.astype(np.int16), none.astype(np.bool_))
    store = build_store(Categories((1,), ("x",)), ImageTable.of([]), none, *columns)
    assert len(store) == 0
    table = ImageTable.of([ImageEntry(1, "a.jpg", (2, 3))])
    store = build_store(Categories((1,), ("x",)), table, none, *columns)
    assert store.rows(0) == slice(0, 0)


def test_coco_fits_in_25_mib():
    images, boxes = 118_287, 860_001  # train2017
    rng = np.random.default_rng(0)
    entries = [ImageEntry(i, f"{i:012d}.jpg", (480, 640)) for i in range(images)]
    store = build_store(
        Categories.numbered(80),
        ImageTable.of(entries),
        image_rows=rng.integers(0, images, boxes, dtype=np.int32),
        boxes=np.zeros((boxes, 4), dtype=np.float32),
        labels=np.ones(boxes, dtype=np.int16),
        is_crowd=np.zeros(boxes, dtype=np.bool_),
    )
    # a box: 16 + 2 + 1 bytes; an image: id 8, size 8, frame 1, name 16, starts 8; the two ends
    assert store.nbytes == 19 * boxes + 41 * images + 2 * 4
    assert store.nbytes <= 25 * MIB
