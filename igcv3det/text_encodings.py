"""The encoding of a text file, by the byte order mark that programs on Windows write."""

from __future__ import annotations

import codecs

_MARKS = {  # that of UTF-32 begins with that of UTF-16
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def marked_encoding(data: bytes) -> str | None:
    """The encoding that a byte order mark names; None without one.

    Example:
        >>> marked_encoding("a".encode("utf-16"))
        'utf-16'
    """
    return next((name for mark, name in _MARKS.items() if data.startswith(mark)), None)
