"""Types of command-line arguments."""

from __future__ import annotations

import argparse
from collections.abc import Callable


def positive_int(text: str) -> int:
    """A whole number of at least 1.

    Raises:
        argparse.ArgumentTypeError: it is none.

    Example:
        >>> positive_int("3")
        3
    """
    return whole_number_from(1)(text)


def whole_number_from(least: int) -> Callable[[str], int]:
    """The type of an argument that is a whole number of at least ``least``."""

    def parse(text: str) -> int:
        if not (text.isascii() and text.isdecimal()) or int(text) < least:
            raise argparse.ArgumentTypeError(f"must be a whole number >= {least}, got {text!r}")
        return int(text)

    return parse


def positive_float(text: str) -> float:
    """A number above 0.

    Raises:
        argparse.ArgumentTypeError: it is none.

    Example:
        >>> positive_float("0.5")
        0.5
    """
    value = _number(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number > 0, got {text!r}")
    return value


def non_negative_float(text: str) -> float:
    """A number of at least 0.

    Raises:
        argparse.ArgumentTypeError: it is none.

    Example:
        >>> non_negative_float("0")
        0.0
    """
    value = _number(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number >= 0, got {text!r}")
    return value


def port(text: str) -> int:
    """A port of TCP, 0 to 65535.

    Raises:
        argparse.ArgumentTypeError: it is none.

    Example:
        >>> port("8000")
        8000
    """
    if not (text.isascii() and text.isdecimal()) or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"must be a port, 0 to 65535, got {text!r}")
    return int(text)


def confidence(text: str) -> float:
    """A score threshold in [0, 1).

    Raises:
        argparse.ArgumentTypeError: it is none.

    Example:
        >>> confidence("0.3")
        0.3
    """
    value = _number(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"must be in [0, 1), got {text!r}")
    return value


def share(text: str) -> float:
    """A share in (0, 1].

    Raises:
        argparse.ArgumentTypeError: it is none.

    Example:
        >>> share("1")
        1.0
    """
    value = _number(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share in (0, 1]")
    return value


def integers(text: str) -> list[int]:
    """Whole numbers with commas between.

    Raises:
        argparse.ArgumentTypeError: they are none.

    Example:
        >>> integers("1,2,3")
        [1, 2, 3]
    """
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be numbers like 1,2,3, got {text!r}") from None


def mask_labels(text: str) -> list[int]:
    """Labels of masks, 0 to 255, with commas between.

    Raises:
        argparse.ArgumentTypeError: they are none.
    """
    found = integers(text)
    if not all(0 <= label <= 255 for label in found):
        raise argparse.ArgumentTypeError(f"must be labels in 0..255, got {text!r}")
    return found


def words(text: str) -> list[str]:
    """Words with commas between, without repetitions.

    Raises:
        argparse.ArgumentTypeError: there is none.

    Example:
        >>> words("person,dog")
        ['person', 'dog']
    """
    found = list(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    if not found:
        raise argparse.ArgumentTypeError(f"must be words like a,b, got {text!r}")
    return found


def some_of(choices: tuple[str, ...]) -> Callable[[str], tuple[str, ...]]:
    """The type of an argument that takes some of these words, with commas between."""

    def parse(text: str) -> tuple[str, ...]:
        chosen = tuple(words(text))
        if not set(chosen) <= set(choices):
            raise argparse.ArgumentTypeError(f"takes some of {','.join(choices)}, got {text!r}")
        return chosen

    return parse


def _number(text: str) -> float:
    """NaN, which no comparison holds for, where the text is no number."""
    try:
        return float(text)
    except ValueError:
        return float("nan")
