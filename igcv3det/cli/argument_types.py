"""Types of command-line arguments."""

from __future__ import annotations

import argparse


def count(text: str) -> int:
    """A whole number from 1 on, as ``type`` of an argument.

    Raises:
        argparse.ArgumentTypeError: it is none.

    Example:
        >>> count("3")
        3
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number >= 1, got {text!r}")
    return int(text)
