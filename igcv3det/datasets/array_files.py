"""NumPy's ``.npy`` files that are written piece by piece."""

from __future__ import annotations

from typing import BinaryIO

import numpy as np


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
