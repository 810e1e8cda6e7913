"""LabelMe: a JSON file an image, beside it, with a list of shapes.

A rectangle is two opposite corners; of polygons and circles the extent is taken. Points and lines
are no boxes and are left out, which is counted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

from igcv3det.datasets.builder import RecordBuilder
from igcv3det.datasets.formats.folders import (
    ALL,
    ImagesByStem,
    Progress,
    Splits,
    files_below,
    files_ending,
    folders_of_splits,
    read_names,
    split_folders,
    with_common_names,
    without_ending,
)
from igcv3det.datasets.image_sizes import size_or_issue
from igcv3det.datasets.issues import AnnotationError
from igcv3det.datasets.record import AnnotationRecord
from igcv3det.datasets.subsets import SplitRecord
from igcv3det.datasets.text_files import read_json, read_start
from igcv3det.datasets.values import is_number, shown

_JSON = frozenset({".json"})
_EXTENT = frozenset({"rectangle", "polygon", "rotation", "mask"})


def recognise(path: Path) -> str | None:
    """What shows that this is LabelMe's format."""
    if path.is_file():
        return path.name if path.suffix.lower() == ".json" and _is_labelme(path) else None
    for folder in (*folders_of_splits(path), path, path / "annotations", path / "labels"):
        for file in files_ending(folder, ".json")[:3]:
            if _is_labelme(file):
                return file.relative_to(path).as_posix()
    return None


def open_splits(path: Path, progress: Progress | None = None) -> Splits:
    """How to read each split; the first that is read reads all, for their classes."""
    if path.is_file():
        path = path.parent
    folders = split_folders(path, lambda folder: next(files_below(folder, _JSON), None) is not None)
    folders = folders or {ALL: path}

    @cache
    def read_all() -> dict[str, SplitRecord]:
        names = read_names(path)
        records = {name: _read(folder, names, progress) for name, folder in folders.items()}
        common = with_common_names(records, names)
        return {name: SplitRecord(common[name], folder) for name, folder in folders.items()}

    def read(split: str) -> SplitRecord:
        return read_all()[split]

    return {name: partial(read, name) for name in folders}


def _is_labelme(file: Path) -> bool:
    """By the beginning of the file, which may hold the whole image."""
    head = read_start(file, 100_000)
    is_object = head.lstrip("\ufeff \t\r\n").startswith("{")
    has_own = any(f'"{name}"' in head for name in ("shapes", "imageData"))
    return is_object and has_own and '"categories"' not in head


def _read(
    folder: Path, class_names: Sequence[str] | None, progress: Progress | None
) -> AnnotationRecord:
    """Reads the JSON files of a split.

    Raises:
        AnnotationError: there are none.
    """
    builder = RecordBuilder(folder, position_text="shapes[{}]", class_names=class_names)
    images = ImagesByStem(folder)
    names = sorted(files_below(folder, _JSON))
    for number, name in enumerate(names, start=1):
        if progress is not None:
            progress(number, len(names))
        file = folder / name
        try:
            content = read_json(file)
            if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
                raise AnnotationError(f"{file}: has no list of shapes: not a file of LabelMe")
        except AnnotationError as error:
            detail = f"{str(error).removeprefix(f'{file}: ')}; the image is left out"
            builder.add_issue("unreadable label file", file, detail)
            continue
        _add(builder, number, file, content, folder, images)
    if not names:
        raise AnnotationError(f"{folder}: has no JSON file")
    for name in images.unused({without_ending(name) for name in names}):
        builder.add_issue(
            "unlabelled image", folder / name, "has no JSON file of its own, so it is not used"
        )
    return builder.build()


def _add(
    builder: RecordBuilder,
    number: int,
    file: Path,
    content: dict[str, Any],
    folder: Path,
    images: ImagesByStem,
) -> None:
    given = content.get("imagePath")
    stem = file.relative_to(folder).with_suffix("").as_posix()
    image = images.find(stem, given if isinstance(given, str) else None)
    if image is None:
        detail = f"no image beside it; imagePath is {shown(given)}: put it back or remove this file"
        builder.add_issue("missing file", file, detail)
        return
    stated = content.get("imageHeight"), content.get("imageWidth")
    size = size_or_issue(builder, folder / image, stated, file, "the image is left out")
    if size is None:
        return
    builder.add_image(
        number, image, size.width, size.height, label_file=file, is_upright=size.is_upright
    )
    for position, shape in enumerate(content["shapes"]):
        box = _box(shape)
        if isinstance(box, str):
            builder.add_issue("bad annotation", file, f"shapes[{position}]: {box}")
        else:
            builder.add_named(number, shape["label"], box, position)


def _box(shape: object) -> list[float] | str:
    """(x, y, width, height), or what is wrong with the shape."""
    if not isinstance(shape, dict):
        return f"must be an object, got {shown(shape)}"
    label, points = shape.get("label"), shape.get("points")
    kind = shape.get("shape_type") or "polygon"
    if not isinstance(label, str) or not label:
        return f"label must be a name, got {shown(label)}"
    if not isinstance(points, list) or not all(_is_point(point) for point in points):
        return f"points must be pairs of numbers, got {shown(points)}"
    if kind == "circle" and len(points) == 2:
        (x, y), edge = points
        radius = math.dist((x, y), edge)
        return [x - radius, y - radius, 2 * radius, 2 * radius]
    if kind not in _EXTENT:
        return f"a {kind} has no extent: use a rectangle or a polygon"
    if len(points) < 2:
        return f"a {kind} needs two points or more, got {len(points)}"
    left, right = min(x for x, _ in points), max(x for x, _ in points)
    top, bottom = min(y for _, y in points), max(y for _, y in points)
    return [left, top, right - left, bottom - top]


def _is_point(point: object) -> bool:
    return isinstance(point, list) and len(point) == 2 and all(is_number(value) for value in point)
