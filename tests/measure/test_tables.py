"""Numbers and tables as text."""

import math

from igcv3det.measure.tables import format_number, text_table


def test_missing_values_are_dashes():
    assert [
        format_number(None),
        format_number(math.nan),
        format_number(0.12345),
        format_number(2.0, ".1f"),
    ] == [*("-", "-", "0.123", "2.0")]


def test_columns_are_aligned_without_rows_too():
    assert text_table(["a", "bb"], []) == "a  bb"
    assert text_table(["a", "bb"], [["ccc", "1"]]) == "a    bb\nccc   1"
