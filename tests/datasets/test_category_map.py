"""Names, then ids, say which class is which."""

import pytest

from igcv3det.datasets.category_map import UNKNOWN, match_categories
from igcv3det.datasets.coco_categories import COCO_CATEGORIES
from igcv3det.structures import Categories


def test_the_same_classes_map_to_their_own_ids():
    assert match_categories(COCO_CATEGORIES, COCO_CATEGORIES).tolist() == [
        UNKNOWN,
        *COCO_CATEGORIES.ids,
    ]


@pytest.mark.parametrize(
    ("detector", "dataset", "expected"),
    [
        ([(1, "cat"), (3, "dog")], [(3, "dog")], [UNKNOWN, 3]),
        ([(1, "cat"), (3, "dog")], [(3, "cat"), (1, "dog")], [3, 1]),
        ([(1, "Potted-plant")], [(64, "potted plant"), (1, "sofa")], [64]),
        ([(5, "bat"), (2, "bat")], [(2, "bat"), (9, "bat")], [9, 2]),
        ([(5, "bat"), (6, "bat")], [(2, "bat")], [2, UNKNOWN]),
    ],
    ids=["subset", "renumbered", "spelling", "two of a name", "one for two"],
)
def test_names_decide(detector, dataset, expected):
    sides = [Categories(*zip(*side, strict=True)) for side in (detector, dataset)]
    assert match_categories(*sides).tolist() == [UNKNOWN, *expected]


def test_numbered_classes_follow_the_order_of_the_ids(caplog):
    dataset = Categories((9, 4), ("b", "a"))
    assert match_categories(Categories.numbered(2), dataset).tolist() == [UNKNOWN, 4, 9]
    assert "no names" in caplog.text


def test_nothing_in_common_names_both_sides():
    with pytest.raises(ValueError, match=r"knows 1 'cat'; the data set has 1 'dog', 2 'cow'"):
        match_categories(Categories((1,), ("cat",)), Categories((1, 2), ("dog", "cow")))
    with pytest.raises(ValueError, match="and 70 more; the data set has none"):
        match_categories(COCO_CATEGORIES, Categories((), ()))
