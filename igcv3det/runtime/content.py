"""What a file's content says it is, whatever its name."""

from __future__ import annotations

import re
from pathlib import Path

from igcv3det.export_formats import FORMATS, ExportFormat
from igcv3det.runtime.ncnn_session import MAGIC

_HEAD = 1000  # bytes in which OpenVINO's XML opens its root element
_PATTERNS = {
    "litert": rb".{4}TFL3",
    "executorch": rb".{4}ET\d\d",
    "ncnn": rb"\s*" + MAGIC.encode() + rb"\s",
    "openvino": rb"\s*(<\?xml.*)?<net\b",
    "onnx": rb"\x08[\x01-\x20]",  # ir_version, the first field
}


def format_by_content(path: Path) -> ExportFormat | None:
    """The format that a file's first bytes belong to; None for none of them, or a folder."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        head = file.read(_HEAD)
    for name, pattern in _PATTERNS.items():
        if re.match(pattern, head, re.DOTALL):
            return FORMATS[name]
    return None
