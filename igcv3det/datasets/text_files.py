"""Text and JSON files, in any Unicode encoding, with errors that name the file."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from igcv3det.datasets.issues import AnnotationError
from igcv3det.text_encodings import marked_encoding

_YOLO = re.compile(r"^\s*(names|nc|train|val)\s*:", re.MULTILINE)
_YOLO_BOX = re.compile(r"\s*\d+(\s+-?[\d.]+){4,}\s*$", re.MULTILINE)


def read_text(path: Path) -> str:
    """Reads UTF-8, or UTF-16 and UTF-32 with a byte order mark (as PowerShell writes them).

    Raises:
        FileNotFoundError: there is no such file.
        AnnotationError: it cannot be read, or is no text.
    """
    data = _read_bytes(path)
    return _decode(data, marked_encoding(data) or "utf-8", path)


def read_start(path: Path, size: int) -> str:
    """The first bytes of a text file, as far as they are text; empty if it cannot be read."""
    try:
        with path.open("rb") as stream:
            data = stream.read(size)
    except OSError:
        return ""
    return data.decode(marked_encoding(data) or json.detect_encoding(data), "replace")


def read_json(
    path: Path, object_hook: Callable[[dict[str, Any]], dict[str, Any]] | None = None
) -> Any:  # noqa: ANN401
    """Reads JSON in UTF-8, UTF-16 or UTF-32.

    Args:
        path: of the file.
        object_hook: as of `json.loads`.

    Raises:
        FileNotFoundError: there is no such file.
        AnnotationError: it cannot be read, or is not JSON; says where, and what it may be instead.
    """
    data = _read_bytes(path)
    text = _decode(data, json.detect_encoding(data), path)
    del data  # as large as the text; both are not needed at once
    try:
        return json.loads(text, object_hook=object_hook)
    except json.JSONDecodeError as error:
        raise AnnotationError(f"{path}: {_why_no_json(path, error)}") from None
    except RecursionError:
        raise AnnotationError(f"{path}: not usable JSON: nested too deeply") from None
    except ValueError as error:  # an integer of more than 4300 digits
        reason = str(error).split(";")[0]
        raise AnnotationError(f"{path}: not usable JSON: {reason}") from None


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise AnnotationError(f"{path}: cannot be read: is a folder, not a file") from None
    except OSError as error:
        raise AnnotationError(f"{path}: cannot be read: {error.strerror}") from None


def _decode(data: bytes, encoding: str, path: Path) -> str:
    try:
        return data.decode(encoding, "surrogatepass")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        reason = f"{error.reason} at byte {error.start}"
        raise AnnotationError(
            f"{path}: line {line}: not text in {encoding} ({reason}); save it as UTF-8"
        ) from None


def _why_no_json(path: Path, error: json.JSONDecodeError) -> str:
    text = error.doc.lstrip()
    if not text:
        return "the file is empty"
    other = _other_format(path, text)
    if other is not None:
        return f"expects COCO JSON; this looks like {other}: pass its folder as --data or data.root"
    is_cut = text.startswith("{") and not text.rstrip().endswith("}")
    return (
        f"not JSON at line {error.lineno}, column {error.colno} (character {error.pos} of "
        f"{len(error.doc)}): {error.msg}{'; is the file cut off?' if is_cut else ''}"
    )


def _other_format(path: Path, text: str) -> str | None:
    """The format of annotations that a text which is no JSON seems to have."""
    start, suffix = text[:10_000], path.suffix.lower()
    if text.startswith("<") or suffix == ".xml":
        return "Pascal VOC or CVAT (XML)"
    if text.startswith(("{", "[")):
        return None
    if suffix in (".yaml", ".yml") or _YOLO.search(start):
        return "YOLO (YAML)"
    if suffix == ".txt" or _YOLO_BOX.match(start):
        return "YOLO (labels)"
    return "CSV" if suffix == ".csv" else None
