"""Figures and tables as text."""

import math

from igcv3det.measure.tables import figure, text_table


def test_what_is_not_there_is_a_dash():
    assert [figure(None), figure(math.nan), figure(0.12345), figure(2.0, ".1f")] == [
        *("-", "-", "0.123", "2.0")
    ]


def test_columns_are_aligned_without_rows_too():
    assert text_table(["a", "bb"], []) == "a  bb"
    assert text_table(["a", "bb"], [["ccc", "1"]]) == "a    bb\nccc   1"
