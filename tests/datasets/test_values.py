"""What counts as a whole number, a flag and a box."""

import math

import pytest

from igcv3det.datasets.issues import AnnotationError
from igcv3det.datasets.values import flag, is_box, is_number, require_id, shown, whole_number


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (0, 0),
        (-7, -7),
        (2**70, 2**70),
        (128.0, 128),
        (-0.0, 0),
        ("128", 128),
        ("-5", -5),
        ("0", 0),
        *[
            (value, None)
            for value in ("007", "1.0", " 1", "1_0", "", "x", "\u0661", "-0", "9" * 50)
        ],
        *[(value, None) for value in (1.5, math.nan, math.inf, True, False, None, [], {})],
    ],
    ids=repr,
)
def test_whole_number(value, number):
    found = whole_number(value)
    assert found == number
    assert type(found) is type(number)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        *[(value, False) for value in (0, 0.0, "0", False)],
        *[(value, True) for value in (1, 1.0, "1", True)],
        *[(value, None) for value in (2, -1, "yes", "true", "", None, [0], 0.5, math.nan)],
    ],
    ids=repr,
)
def test_flag(value, expected):
    assert flag(value) is expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([1, 2, 3, 4], True),
        ([1.5, -2, 0, -4.0], True),
        ([1, 2, 3], False),
        ([1, 2, 3, 4, 5], False),
        ((1, 2, 3, 4), False),
        (None, False),
        ("1234", False),
        *[([1, 2, 3, wrong], False) for wrong in ("4", True, None, [4])],
        *[([1, wrong, 3, 4], False) for wrong in (math.nan, math.inf, 10**400, 2.0**31)],
    ],
    ids=repr,
)
def test_is_box(value, expected):
    assert is_box(value) is expected


def test_is_number():
    assert [is_number(value) for value in (0, -1.5, 10**20)] == [True] * 3
    wrong = (True, "1", None, math.nan, -math.inf, 10**400)
    assert [is_number(value) for value in wrong] == [False] * 6


def test_ids_of_63_bits_and_more():
    for number in (2**63 - 1, -(2**63) + 1, 0):
        assert require_id(number, "here") == number
    for number in (2**63, -(2**63)):
        with pytest.raises(AnnotationError, match=rf"here: id {number} has more than 63 bits"):
            require_id(number, "here")


def test_values_are_shown_in_one_short_line():
    for value in ("a" * 1000, list(range(1000)), {"a": "\n" * 300}, 10**4000):
        text = shown(value)
        assert len(text) <= 80
        assert "\n" not in text
    assert shown([1, "a"]) == "[1, 'a']"
