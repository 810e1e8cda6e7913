"""CVAT for images 1.1: one XML file with a list of images and of labels.

Boxes have edges in pixels from 0. Of rotated boxes, polygons, ellipses and masks the extent is
taken; points and lines are left out, which is counted.
"""

from __future__ import annotations

import logging
import math
from functools import cache, partial
from pathlib import Path

from igcv3det.datasets.builder import RecordBuilder
from igcv3det.datasets.formats.folders import (
    ALL,
    SPLITS,
    Splits,
    files_ending,
    folders_of_splits,
    split_folders,
    split_name,
    with_common_names,
)
from igcv3det.datasets.formats.image_folder import find_images_folder
from igcv3det.datasets.formats.xml_events import read_xml, root_tag
from igcv3det.datasets.issues import AnnotationError
from igcv3det.datasets.subsets import SplitRecord
from igcv3det.datasets.values import shown

logger = logging.getLogger(__name__)

_LOOKED_AT = 5  # XML files of a folder: one with many is Pascal VOC's
_SHAPES = frozenset(
    ("box", "polygon", "polyline", "points", "ellipse", "cuboid", "mask", "tag", "skeleton")
)


def recognise(path: Path) -> str | None:
    """What shows that this is CVAT's format."""
    if path.is_file():
        is_cvat = path.suffix.lower() == ".xml" and root_tag(path) == "annotations"
        return path.name if is_cvat else None
    files = (file for folder in (path, *folders_of_splits(path)) for file in _files(folder))
    first = next(files, None)
    return first.relative_to(path).as_posix() if first else None


def open_splits(path: Path) -> Splits:
    """How to read each split: a file each, or by the images' attribute ``subset``.

    Raises:
        AnnotationError: several files or folders may be meant.
    """
    files = {ALL: path}
    if path.is_dir():
        folders = (
            {ALL: path} if _files(path) else split_folders(path, lambda one: bool(_files(one)))
        )
        files = {name: _only_file(folder) for name, folder in folders.items()}

    @cache
    def read_all() -> dict[str, SplitRecord]:
        parsed: dict[str, SplitRecord] = {}
        names: dict[str, None] = {}
        for split, file in files.items():
            document = _Document(file, split)
            parsed |= document.splits()
            names |= dict.fromkeys(document.names)
        if ALL in parsed and len(parsed) > 1:
            logger.warning(
                "%s: %d images have a subset that is none of %s, or none: they are in no split",
                *(path, len(parsed[ALL].record.images), ", ".join(SPLITS)),
            )
        records = {split: part.record for split, part in parsed.items()}
        used = [name for record in records.values() for name in record.categories.names]
        common = with_common_names(records, list(names | dict.fromkeys(used)))
        return {split: SplitRecord(common[split], part.images) for split, part in parsed.items()}

    def read(split: str) -> SplitRecord:
        return read_all()[split]

    if list(files) == [ALL]:
        return {name: partial(read, name) for name in read_all()}
    return {name: partial(read, name) for name in files}


class _Document:
    """The content of a file, by split."""

    def __init__(self, path: Path, split: str) -> None:
        self.path, self.names = path, list[str]()
        self._subsets: dict[str, str] = {}
        self._builders: dict[str, RecordBuilder] = {}
        self._files: dict[str, list[str]] = {}
        self._split, self._current = split, split
        self._open: list[str] = []
        read_xml(path, self._start, self._end)
        if not self._builders:
            raise AnnotationError(f"{path}: has no image; export as 'CVAT for images 1.1'")

    def splits(self) -> dict[str, SplitRecord]:
        """The record of each split, and the folder of its images."""
        found = {}
        for split, builder in self._builders.items():
            folder = find_images_folder(self.path, self._files[split], split)
            found[split] = SplitRecord(builder.build(), folder)
        return found

    def _start(self, tag: str, attributes: dict[str, str], line: int) -> None:
        self._open.append(tag)
        if tag == "track":
            raise AnnotationError(
                f"{self.path}: line {line}: a track of a video; export as 'CVAT for images 1.1'"
            )
        if tag == "image":
            self._add_image(attributes, line)
        elif tag in _SHAPES and self._open[-2:-1] == ["image"]:
            self._add_shape(tag, attributes, line)

    def _end(self, tag: str, text: str, line: int) -> None:
        self._open.pop()
        if tag == "name" and self._open[-1:] == ["label"] and text not in self.names:
            self.names.append(text)

    def _add_image(self, attributes: dict[str, str], line: int) -> None:
        subset = attributes.get("subset", "")
        # a file in the folder of a split is of that split, also where tasks were divided later
        named = split_name(subset) if self._split == ALL else None
        self._current = named or self._split
        if self._current not in self._builders:
            names = self.names or None
            builder = RecordBuilder(self.path, position_text="line {}", class_names=names)
            self._builders[self._current], self._files[self._current] = builder, []
        if named and (first := self._subsets.setdefault(named, subset)) != subset:
            raise AnnotationError(
                f"{self.path}: line {line}: subset {shown(subset)}, after {shown(first)}: "
                "several subsets of one split; rename or remove one"
            )
        name = attributes.get("name")
        size = attributes.get("width"), attributes.get("height")
        files = self._files[self._current]
        files.append(name or "")
        self._builders[self._current].add_image(len(files), name, *size, position=line)

    def _add_shape(self, tag: str, attributes: dict[str, str], line: int) -> None:
        builder, label = self._builders[self._current], attributes.get("label")
        box = _box(tag, attributes)
        if isinstance(box, str) or not label:
            reason = box if isinstance(box, str) else f"a {tag} without a label"
            builder.add_issue("bad annotation", self.path, f"line {line}: {reason}")
            return
        builder.add_named(len(self._files[self._current]), label, box, line)


def _files(folder: Path) -> list[Path]:
    """CVAT's files; none where the first few XML files are others."""
    files = files_ending(folder, ".xml")
    if not any(root_tag(file) == "annotations" for file in files[:_LOOKED_AT]):
        return []
    return [file for file in files if root_tag(file) == "annotations"]


def _only_file(folder: Path) -> Path:
    files = _files(folder)
    if len(files) > 1:
        listed = ", ".join(file.name for file in files[:4])
        raise AnnotationError(
            f"{folder}: several CVAT files ({listed}): name the one that is meant"
        )
    return files[0]


def _box(tag: str, attributes: dict[str, str]) -> list[float] | str:
    """(x, y, width, height), or why the shape is none."""
    try:
        if tag == "box":
            left, top, right, bottom = (float(attributes[k]) for k in ("xtl", "ytl", "xbr", "ybr"))
            return _rotated(left, top, right, bottom, float(attributes.get("rotation", 0)))
        if tag == "ellipse":
            x, y, across, down = (float(attributes[k]) for k in ("cx", "cy", "rx", "ry"))
            degrees = float(attributes.get("rotation", 0))
            return _ellipse(x, y, across, down, degrees)
        if tag == "mask":
            return [float(attributes[k]) for k in ("left", "top", "width", "height")]
        if tag == "polygon":
            points = [point.split(",") for point in attributes["points"].split(";")]
            xs, ys = [float(x) for x, _ in points], [float(y) for _, y in points]
            return [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]
    except (KeyError, ValueError):
        return f"a {tag} with unusable coordinates: {shown(attributes)}"
    return f"a {tag} has no extent that a box could take: use a box or a polygon"


def _ellipse(x: float, y: float, across: float, down: float, degrees: float) -> list[float]:
    """The extent of an ellipse, of centre and half axes, turned about its centre."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    half_width = math.hypot(across * cos, down * sin)
    half_height = math.hypot(across * sin, down * cos)
    return [x - half_width, y - half_height, 2 * half_width, 2 * half_height]


def _rotated(left: float, top: float, right: float, bottom: float, degrees: float) -> list[float]:
    """The extent of a box turned about its centre."""
    width, height = right - left, bottom - top
    if degrees % 360 == 0:
        return [left, top, width, height]
    cos, sin = abs(math.cos(math.radians(degrees))), abs(math.sin(math.radians(degrees)))
    new_width, new_height = width * cos + height * sin, width * sin + height * cos
    x, y = (left + right) / 2, (top + bottom) / 2
    return [x - new_width / 2, y - new_height / 2, new_width, new_height]
