"""CSV: a line a box, ``image,xmin,ymin,xmax,ymax,label``.

A header may have the columns in any order, under the names below, and ``width`` and ``height`` of
the image besides. Without a header the order is as above. A line with an image alone says that it
has no objects. Fields may be separated by commas, semicolons or tabs. Edges are in pixels from 0.
"""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Iterable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path

from igcv3det.datasets.builder import RecordBuilder
from igcv3det.datasets.formats.folders import (
    ALL,
    Splits,
    by_split,
    files_ending,
    folders_of_splits,
    read_names,
    split_name,
    with_common_names,
)
from igcv3det.datasets.formats.image_folder import find_images_folder
from igcv3det.datasets.image_sizes import size_or_issue
from igcv3det.datasets.issues import AnnotationError
from igcv3det.datasets.listings import FolderListing
from igcv3det.datasets.subsets import SplitRecord
from igcv3det.datasets.text_files import read_start, read_text
from igcv3det.datasets.values import shown

logger = logging.getLogger(__name__)

COLUMNS = ("image", "xmin", "ymin", "xmax", "ymax", "label")
_ALIASES = {
    **{name: name for name in (*COLUMNS, "width", "height")},
    **dict.fromkeys(("filename", "file_name", "file", "image_path", "path"), "image"),
    **dict.fromkeys(("class", "class_name", "category", "name"), "label"),
    **{"x_min": "xmin", "y_min": "ymin", "x_max": "xmax", "y_max": "ymax"},
    **{"x1": "xmin", "y1": "ymin", "x2": "xmax", "y2": "ymax"},
}
_EDGES = COLUMNS[1:5]
_DELIMITERS = (",", ";", "\t")
_START_BYTES = 1_000_000  # many images without objects may come before the first box


def recognise(path: Path) -> str | None:
    """What shows that this is a table of boxes."""
    if path.is_file():
        return path.name if path.suffix.lower() == ".csv" and _is_table(path) else None
    for folder in (path, *folders_of_splits(path)):
        for file in files_ending(folder, ".csv"):
            if _is_table(file):
                return file.relative_to(path).as_posix()
    return None


def open_splits(path: Path) -> Splits:
    """How to read each split; the first that is read reads all, for their classes."""
    files = {ALL: path} if path.is_file() else _files(path)

    @cache
    def read_all() -> dict[str, SplitRecord]:
        names = read_names(path if path.is_dir() else path.parent)
        parts = {name: _read(file, name, names) for name, file in files.items()}
        records = {name: part.record for name, part in parts.items()}
        common = with_common_names(records, names)
        return {name: SplitRecord(common[name], parts[name].images) for name in files}

    def read(split: str) -> SplitRecord:
        return read_all()[split]

    return {name: partial(read, name) for name in files}


def _files(path: Path) -> dict[str, Path]:
    """The table of each split; one that is named after a split and is no table is refused later."""
    places = [(file.stem, file) for file in files_ending(path, ".csv")]
    places += [
        (folder.name, file)
        for folder in folders_of_splits(path)
        for file in files_ending(folder, ".csv")
    ]
    found = by_split(places, path, "tables")
    tables = [file for name, file in places if split_name(name) is None and _is_table(file)]
    if found and tables:
        logger.warning("%s: not used: it is not named after a split", tables[0])
    if not found and len(tables) > 1:
        listed = ", ".join(file.name for file in tables[:4])
        raise AnnotationError(
            f"{path}: several tables ({listed}): name the file, or call them train.csv and val.csv"
        )
    return found or {ALL: tables[0]}


def _is_table(file: Path) -> bool:
    return _delimiter(read_start(file, _START_BYTES)) is not None


def _delimiter(text: str) -> str | None:
    """What separates the fields, by the first lines with content; None where that is no table."""
    for delimiter in _DELIMITERS:
        try:
            if _shows_table(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)):
                return delimiter
        except csv.Error:
            continue
    return None


def _shows_table(lines: Iterable[list[str]]) -> bool:
    """Whether a header or a row comes first, after images alone or nothing."""
    with_content = (fields for fields in lines if _has_content(fields))
    for number, fields in enumerate(with_content):
        if _is_row(fields) or (not number and _header(fields)):
            return True
        if _has_content(fields[1:]):
            return False
    return False


def _has_content(fields: Sequence[str]) -> bool:
    return any(field.strip() for field in fields)


def _header(fields: list[str]) -> dict[str, int]:
    """Columns by our names; empty where the line is no header."""
    found: dict[str, int] = {}
    for index, field in enumerate(fields):
        name = _ALIASES.get(field.strip().lower())
        if name is not None:
            found.setdefault(name, index)
    return found if "xmin" in found else {}


def _is_row(fields: list[str]) -> bool:
    """Whether these are a box, or an image with the other fields empty."""
    if len(fields) != len(COLUMNS):
        return False
    try:
        return not _has_content(fields[1:]) or all(float(f) is not None for f in fields[1:5])
    except ValueError:
        return False


def _rows(file: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Lines with their numbers, by our names of the columns."""
    text = read_text(file)
    delimiter = _delimiter(text)
    if delimiter is None:
        lines = enumerate(text.splitlines(), start=1)
        number, first = next(((n, line.strip()) for n, line in lines if line.strip()), (1, ""))
        what = f"got {shown(first)}" if first else "the file is empty"
        raise AnnotationError(
            f"{file}: line {number}: must be a box or a header, as {','.join(COLUMNS)}; {what}"
        )
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    columns: dict[str, int] | None = None
    try:
        for fields in filter(_has_content, reader):
            if columns is None:
                columns = _header(fields)
                missing = [name for name in COLUMNS if name not in columns]
                if columns and missing:
                    where = f"{file}: line {reader.line_num}"
                    raise AnnotationError(f"{where}: no column {', '.join(missing)}")
                if columns:
                    continue
                columns = {name: index for index, name in enumerate(COLUMNS)}
            given = {n: fields[i].strip() for n, i in columns.items() if i < len(fields)}
            yield reader.line_num, given
    except csv.Error as error:
        raise AnnotationError(f"{file}: line {reader.line_num}: not CSV: {error}") from None


class _Images:
    """Images of a table as they first occur, with the size that the table or the file gives."""

    def __init__(self, file: Path, builder: RecordBuilder, folder: Path) -> None:
        self._file, self._builder, self._listing = file, builder, FolderListing(folder)
        self._numbers: dict[str, int | None] = {}

    def number(self, row: dict[str, str], line: int) -> int | None:
        """The image's id; None where it cannot be read."""
        name = row.get("image", "").replace("\\", "/")
        if name not in self._numbers:
            self._numbers[name] = self._added(name, row, line)
        return self._numbers[name]

    def _added(self, name: str, row: dict[str, str], line: int) -> int | None:
        number = len(self._numbers) + 1
        stated = row.get("height"), row.get("width")
        left_out, image = "its boxes are left out", self._listing.path(name)
        size = size_or_issue(self._builder, image, stated, self._file, left_out, line)
        if size is None:
            return None
        self._builder.add_image(
            number, name, size.width, size.height, position=line, is_upright=size.is_upright
        )
        return number


def _read(file: Path, split: str, class_names: Sequence[str] | None) -> SplitRecord:
    """Reads a table; images keep the order in which they occur.

    Raises:
        AnnotationError: it has no lines, or lacks a column.
    """
    rows = list(_rows(file))
    if not rows:
        raise AnnotationError(f"{file}: has no boxes; it needs lines like {','.join(COLUMNS)}")
    names = dict.fromkeys(row.get("image", "") for _, row in rows)
    folder = find_images_folder(file, [name for name in names if name and "\0" not in name], split)
    builder = RecordBuilder(file, position_text="line {}", class_names=class_names)
    images = _Images(file, builder, folder)
    for line, row in rows:
        if not row.get("image") or "\0" in row["image"]:
            builder.add_issue("bad annotation", file, f"line {line}: no image is named")
            continue
        number = images.number(row, line)
        if number is None or not any(row.get(name) for name in (*_EDGES, "label")):
            continue
        try:
            left, top, right, bottom = (float(row.get(name, "")) for name in _EDGES)
        except ValueError:
            given = [row.get(name, "") for name in _EDGES]
            detail = f"line {line}: {', '.join(_EDGES)} must be numbers, got {shown(given)}"
            builder.add_issue("bad annotation", file, detail)
            continue
        if not row.get("label"):
            builder.add_issue("bad annotation", file, f"line {line}: no label")
            continue
        builder.add_named(number, row["label"], [left, top, right - left, bottom - top], line)
    return SplitRecord(builder.build(), folder)
