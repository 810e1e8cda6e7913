"""Damage of PNG files that can be told before they are decoded.

libpng writes a line of its own on standard error for each damaged file.
"""

from __future__ import annotations

import struct
import zlib

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEAD = struct.Struct(">I4s")  # length and type of a chunk; its data and a checksum follow
_CHECKSUM = struct.Struct(">I")
_NEEDED = (b"IHDR", b"IDAT")  # decoders leave other chunks out if they are damaged


def png_damage(data: bytes) -> str | None:
    """What is wrong with the chunks of a PNG file; None if nothing is, or ``data`` is no PNG.

    Source: PNG specification (ISO/IEC 15948), section 5, "Datastream structure".

    Example:
        >>> png_damage(SIGNATURE + _HEAD.pack(4, b"IDAT") + b"ab")
        'cut off'
    """
    if not data.startswith(SIGNATURE):
        return None
    start, kind = len(SIGNATURE), b""
    view = memoryview(data)
    while kind != b"IEND":
        if start + _HEAD.size > len(data):
            return "cut off"
        length, kind = _HEAD.unpack_from(data, start)
        end = start + _HEAD.size + length
        if end + _CHECKSUM.size > len(data):
            return "cut off"
        (checksum,) = _CHECKSUM.unpack_from(data, end)
        if kind in _NEEDED and zlib.crc32(view[start + 4 : end]) != checksum:
            return "damaged"
        start = end + _CHECKSUM.size
    return None
