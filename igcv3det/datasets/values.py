"""Single values of annotation files: what counts as an id, a size, a flag or a box.

JSON written by pandas, JavaScript or converters from CSV has ``128.0``, ``"128"``, ``null`` or
``false`` in the place of whole numbers; where the meaning is plain, they are read.
"""

from __future__ import annotations

import re

from igcv3det.datasets.issues import AnnotationError

LARGEST_PX = 2.0**31
"""Bound of sizes and coordinates, pixels; infinity and NaN are not below it."""
_MAX_ID = 2**63 - 1
_WHOLE = re.compile(r"0|-?[1-9][0-9]{0,40}")
_NUMBERS = frozenset({int, float})


def whole_number(value: object) -> int | None:
    """A whole number written as 3, 3.0 or "3"; None for anything else.

    Example:
        >>> [whole_number(value) for value in (3, 3.0, "3", "03", 3.5, True, None)]
        [3, 3, 3, None, None, None, None]
    """
    if type(value) is int:
        return value
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    return int(value) if isinstance(value, str) and _WHOLE.fullmatch(value) else None


def flag(value: object) -> bool | None:
    """0 or 1 as `whole_number` reads them, or a truth value; None for anything else."""
    if isinstance(value, bool):
        return value
    number = whole_number(value)
    return bool(number) if number in (0, 1) else None


def is_number(value: object) -> bool:
    """Whether this is a finite number; text is none."""
    return type(value) in _NUMBERS and -1e300 < value < 1e300  # type: ignore[operator]


def is_box(value: object) -> bool:
    """Whether this is a list of four finite numbers of pixels."""
    if type(value) is not list or len(value) != 4 or not _NUMBERS.issuperset(map(type, value)):
        return False
    x, y, width, height = value
    low, high = -LARGEST_PX, LARGEST_PX  # NaN is not between them
    return bool(low < x < high and low < y < high and low < width < high and low < height < high)


def fits_id(number: int) -> bool:
    """Whether the number fits in 63 bits and a sign, as arrays hold ids."""
    return -_MAX_ID <= number <= _MAX_ID


def require_id(number: int, where: str) -> int:
    """The number itself.

    Raises:
        AnnotationError: it does not fit in 63 bits and a sign; names ``where``.
    """
    if not fits_id(number):
        raise AnnotationError(
            f"{where}: id {shown(number)} has more than 63 bits; renumber the ids"
        )
    return number


def shown(value: object) -> str:
    """The value for a message, shortened."""
    try:
        text = repr(value)
    except RecursionError:
        text = f"a deeply nested {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:77]}..."
