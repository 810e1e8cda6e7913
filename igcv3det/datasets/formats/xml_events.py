"""XML as a stream of elements with line numbers; entities and document types are refused.

Expat calls back for each element, so that a file is read in one pass without a tree. A document
that declares entities may expand to gigabytes or read other files: annotations have none.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn
from xml.parsers import expat

from igcv3det.datasets.issues import AnnotationError
from igcv3det.text_encodings import marked_encoding

_OTHER_ENCODING = re.compile(rb"""encoding=["'](?!utf-8)""", re.IGNORECASE)

Start = Callable[[str, dict[str, str], int], None]
"""Called with tag, attributes and line."""
End = Callable[[str, str, int], None]
"""Called with tag, the text since the last tag, stripped, and the line."""


def read_xml(path: Path, start: Start, end: End) -> None:
    """Reads a file and calls back for every element.

    Raises:
        AnnotationError: there is no such file, it is cut off or not XML (names the line), or it
            declares entities.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise AnnotationError(f"{path}: cannot be read: {error.strerror}") from None
    encoding = marked_encoding(data)
    parser = expat.ParserCreate(encoding and encoding.removesuffix("-sig"))
    parser.buffer_text = True
    text: list[str] = []

    def on_start(tag: str, attributes: dict[str, str]) -> None:
        text.clear()
        start(tag, attributes, parser.CurrentLineNumber)

    def on_end(tag: str) -> None:
        end(tag, "".join(text).strip(), parser.CurrentLineNumber)
        text.clear()

    def refuse(*_: object) -> NoReturn:
        raise AnnotationError(
            f"{path}: line {parser.CurrentLineNumber}: declares an entity, which annotations do "
            "not need and a harmful file may; remove the declaration"
        )

    parser.StartElementHandler, parser.EndElementHandler = on_start, on_end
    parser.CharacterDataHandler = text.append
    parser.EntityDeclHandler = refuse
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        reason = expat.ErrorString(error.code)
        raise AnnotationError(f"{path}: {_why_no_xml(data, error.lineno, reason)}") from None
    except (LookupError, ValueError) as error:
        if isinstance(error, AnnotationError):
            raise
        raise AnnotationError(f"{path}: not XML in a known encoding: {error}") from None


def _why_no_xml(data: bytes, line: int, reason: str) -> str:
    if not data.strip():
        return "the file is empty"
    try:
        data.decode(marked_encoding(data) or "utf-8")
    except UnicodeDecodeError:
        if not _OTHER_ENCODING.search(data[:200]):
            return f"line {line}: not text in utf-8; save it as UTF-8"
    is_cut = not data.rstrip().endswith(b">") or "no element found" in reason
    what = "the file is cut off" if is_cut else "not XML"
    return f"line {line}: {what} ({reason}); write it anew"


def root_tag(path: Path) -> str | None:
    """The first element of a file; None where there is none or the file is no XML."""
    first: list[str] = []

    class _Found(Exception):  # noqa: N818 (no error)
        pass

    def start(tag: str, attributes: dict[str, str], line: int) -> None:
        first.append(tag)
        raise _Found

    try:
        read_xml(path, start, lambda *_: None)
    except _Found:
        return first[0]
    except AnnotationError:
        return None
    return None
