"""Tables of the commands as plain text."""

from __future__ import annotations

import math
from collections.abc import Sequence


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns under their headings; the first is left-aligned, the others right-aligned.

    Example:
        >>> print(text_table(["class", "AP"], [["cat", "0.5"], ["zebra", "-"]]))
        class   AP
        cat    0.5
        zebra    -
    """
    lines = [list(header), *(list(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def format_number(value: float | None, spec: str = ".3f") -> str:
    """A number as text by a format specification; "-" for None and NaN."""
    return "-" if value is None or math.isnan(value) else format(value, spec)
