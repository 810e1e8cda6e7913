"""Names, then ids, say which class is which, in fine-tuning as in evaluation."""

import logging

import pytest

from igcv3det.datasets.category_map import UNKNOWN, match_categories, match_names
from igcv3det.datasets.coco_categories import COCO_CATEGORIES
from igcv3det.structures import Categories

CASES = {
    "same": ([(1, "cat"), (3, "dog")], [(1, "cat"), (3, "dog")], {1: 1, 2: 2}),
    "subset": ([(1, "cat"), (3, "dog")], [(3, "dog")], {2: 1}),
    "renumbered": ([(1, "cat"), (3, "dog")], [(3, "cat"), (1, "dog")], {1: 1, 2: 2}),
    "spelling": ([(1, "Potted-plant")], [(1, "sofa"), (64, "potted plant")], {1: 2}),
    "exact before case": ([(1, "cat"), (2, "CAT")], [(1, "CAT"), (2, "cat")], {1: 2, 2: 1}),
    "case, once each": ([(1, "Cat"), (2, "cat")], [(5, "cat")], {2: 1}),
    "two of a name": ([(5, "bat"), (2, "bat")], [(2, "bat"), (9, "bat")], {1: 2, 2: 1}),
    "one for two": ([(5, "bat"), (6, "bat")], [(2, "bat")], {1: 1}),
    "unicode form": ([(1, "caf\u00e9")], [(1, "cafe\u0301")], {1: 1}),
    "nothing": ([(1, "cat")], [(1, "dog")], {}),
}


def categories(pairs):
    return Categories(*zip(*pairs, strict=True))


@pytest.mark.parametrize(("first", "second", "expected"), CASES.values(), ids=CASES)
def test_names_decide(first, second, expected):
    first, second = categories(first), categories(second)
    assert match_names(first, second) == expected
    if expected:  # evaluation gives the data set's ids for the same pairs
        ids = [second.ids[expected[i] - 1] if i in expected else UNKNOWN for i in (1, 2)]
        assert match_categories(first, second).tolist() == [UNKNOWN, *ids[: len(first)]]


def test_other_spellings_are_logged_and_exact_names_are_not(caplog):
    with caplog.at_level(logging.WARNING):
        match_names(categories([(1, "cat"), (2, "dog")]), categories([(1, "cat"), (2, "Dog")]))
    (record,) = caplog.records
    assert "'dog' is 'Dog'" in record.getMessage()
    assert "cat" not in record.getMessage()


def test_coco_maps_to_its_own_ids():
    assert match_categories(COCO_CATEGORIES, COCO_CATEGORIES).tolist() == [
        UNKNOWN,
        *COCO_CATEGORIES.ids,
    ]


def test_numbered_classes_follow_the_order_of_the_ids(caplog):
    dataset = Categories((9, 4), ("b", "a"))
    assert match_categories(Categories.numbered(2), dataset).tolist() == [UNKNOWN, 4, 9]
    assert "no names" in caplog.text


def test_nothing_in_common_names_both_sides():
    with pytest.raises(ValueError, match=r"has 1 'cat'; the data set has 1 'dog', 2 'cow'"):
        match_categories(Categories((1,), ("cat",)), Categories((1, 2), ("dog", "cow")))
    with pytest.raises(ValueError, match="and 70 more; the data set has none"):
        match_categories(COCO_CATEGORIES, Categories((), ()))
