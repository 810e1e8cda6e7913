"""What OpenCV does not do with TIFF files: ignore the orientation, say what it does not support.

TIFF 6.0, section 2, and BigTIFF (libtiff.gitlab.io/libtiff/specification/bigtiff.html).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple


class _Layout(NamedTuple):
    """Byte positions and `struct` formats of the first directory and its entries."""

    offset_at: int
    offset_format: str
    count_format: str
    entry_bytes: int
    value_at: int


class _Entry(NamedTuple):
    """An entry of the first directory.

    Attributes:
        tag: what it says.
        kind: type of its values.
        place: of its first value, bytes from the beginning of the file.
        order: of the bytes, as `struct` has it.
    """

    tag: int
    kind: int
    place: int
    order: str


_LAYOUTS = {42: _Layout(4, "I", "H", 12, 8), 43: _Layout(8, "Q", "Q", 20, 12)}
_BITS_TAG, _ORIENTATION_TAG, _EXTRA_SAMPLES_TAG, _SHORT = 0x0102, 0x0112, 0x0152, 3
_ASSOCIATED, _UNASSOCIATED = 1, 2  # alpha that the colours are multiplied by, or not


def has_wide_values(data: bytes) -> bool:
    """Whether this is a TIFF of more than 16 bits a value, which OpenCV reads as no image."""
    for tag, kind, place, order in _entries(data):
        if tag == _BITS_TAG and kind == _SHORT and place + 2 <= len(data):
            return bool(struct.unpack_from(f"{order}H", data, place)[0] > 16)
    return False


def without_orientation(data: bytes) -> bytes:
    """The same file with the orientation "as stored", if it is a TIFF; else ``data``.

    OpenCV applies the orientation of a TIFF even with ``IMREAD_IGNORE_ORIENTATION``.
    """
    return _with_value(data, _ORIENTATION_TAG, 1)


def without_multiplying(data: bytes) -> bytes:
    """The same file with alpha as if the colours were multiplied by it, if it is a TIFF.

    OpenCV multiplies colours by an alpha channel that is "unassociated", which leaves black where
    an image is transparent; in other formats it drops the channel.
    """
    return _with_value(data, _EXTRA_SAMPLES_TAG, _ASSOCIATED, instead_of=_UNASSOCIATED)


def _with_value(data: bytes, wanted: int, new: int, instead_of: int | None = None) -> bytes:
    """A TIFF with another first value of a tag that it has; any other file as it is."""
    for tag, kind, place, order in _entries(data):
        value = f"{order}{'H' if kind == _SHORT else 'I'}"
        if tag == wanted and place + struct.calcsize(value) <= len(data):
            if instead_of not in (None, *struct.unpack_from(value, data, place)):
                return data
            patched = bytearray(data)
            struct.pack_into(value, patched, place, new)
            return bytes(patched)
    return data


def _entries(data: bytes) -> Iterator[_Entry]:
    """The entries of the first directory; none or the first ones where the file is damaged."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None:
        return
    try:
        layout = _LAYOUTS[struct.unpack_from(f"{order}H", data, 2)[0]]
        (directory,) = struct.unpack_from(order + layout.offset_format, data, layout.offset_at)
        (count,) = struct.unpack_from(order + layout.count_format, data, directory)
        start = directory + struct.calcsize(layout.count_format)
        for entry in range(start, start + count * layout.entry_bytes, layout.entry_bytes):
            tag, kind = struct.unpack_from(f"{order}HH", data, entry)
            (values,) = struct.unpack_from(order + layout.offset_format, data, entry + 4)
            place = entry + layout.value_at
            if kind == _SHORT and 2 * values > struct.calcsize(layout.offset_format):
                (place,) = struct.unpack_from(order + layout.offset_format, data, place)
            yield _Entry(tag, kind, place, order)
    except (struct.error, KeyError):
        return  # the decoder reports it
