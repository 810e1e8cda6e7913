"""NumPy's ``.npy`` files that are written piece by piece and mapped into memory."""

from __future__ import annotations

from pathlib import Path
from tokenize import TokenError
from typing import Any, BinaryIO

import numpy as np

_DAMAGED = (ValueError, EOFError, SyntaxError, TokenError)  # of NumPy, by what is damaged


def mapped_array(path: Path) -> np.memmap[Any, np.dtype[Any]]:
    """The array of a file, read-only, mapped into memory.

    Raises:
        OSError: the file cannot be opened.
        ValueError: it is damaged; the message has the reason without the path.
    """
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except _DAMAGED as error:
        raise ValueError(str(error)) from error


def write_array_header(file: BinaryIO, dtype: str, shape: tuple[int, ...]) -> None:
    """Writes what precedes the values, in C order.

    The length is the same for up to 21 digits of the first axis, so that it can be written again
    when the number of rows is known.

    Args:
        file: at its start.
        dtype: as NumPy spells it in a file ("|u1", "<f2").
        shape: of the array.
    """
    header = {"descr": dtype, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
