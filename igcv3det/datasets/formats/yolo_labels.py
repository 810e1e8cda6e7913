"""YOLO's label files: a line an object, with shares of the image's width and height."""

from __future__ import annotations

import os
import posixpath
from pathlib import Path, PurePosixPath

from igcv3det.datasets.builder import RawAnnotation, RecordBuilder
from igcv3det.datasets.formats.folders import NAME_FILES, files_ending, without_ending
from igcv3det.datasets.image_sizes import size_or_issue
from igcv3det.datasets.issues import AnnotationError
from igcv3det.datasets.listings import FolderListing
from igcv3det.datasets.text_files import read_start, read_text
from igcv3det.datasets.values import shown
from igcv3det.io.images import EXTENSIONS
from igcv3det.structures import Categories

_LINE_BYTES = 10_000
_SLACK = 1e-3  # of shares: labelling programs round


class LabelReader:
    """Reads images and their label files, one by one.

    Args:
        file: of the data set, for messages.
        categories: of the labels; a class index is a category id less one.
        root: folder that file names start from.
        key_points: values of a line after the box, which are not read.

    Attributes:
        builder: of the record.
        found: label files that there are.
    """

    def __init__(self, file: Path, categories: Categories, root: str, key_points: int = 0) -> None:
        self.builder = RecordBuilder(file, categories, position_text="line {}")
        self.found = self._count = 0
        self._root, self._categories = root, categories
        self._known, self._key_points = frozenset(categories.ids), key_points
        self._folders: dict[str, str] = {}
        self._listings: dict[str, FolderListing] = {}
        self._seen: set[str] = set()

    def label_file(self, image: str) -> str:
        """``labels`` for the last ``images`` of the path, or beside the image; with ``.txt``."""
        folder, name = folder_of(image), image.rpartition("/")[2]
        if folder not in self._folders:
            self._folders[folder] = _labels_folder(folder)
        return f"{self._folders[folder]}/{without_ending(name)}.txt"

    def add(self, image: str) -> None:
        """Adds an image with its boxes; what cannot be read is noted."""
        label_file = self._existing(self.label_file(image))
        self._seen.add(label_file)
        try:
            text: str | None = read_text(Path(label_file))
            self.found += 1
        except FileNotFoundError:
            text = None
        except AnnotationError as error:
            self.found += 1
            detail = f"{error}; the image is left out"
            self.builder.add_issue("unreadable label file", label_file, detail)
            return
        left_out = "the image and its labels are left out"
        size = size_or_issue(self.builder, Path(image), (None, None), label_file, left_out)
        if size is None:
            return
        self._count += 1
        number = self._count
        name = os.path.relpath(image, self._root or ".").replace(os.sep, "/")
        self.builder.add_image(
            *(number, name, size.width, size.height),
            label_file=label_file,
            is_upright=size.is_upright,
        )
        if text is None:
            detail = f"no such file: {image} counts as an image without objects"
            self.builder.add_issue("missing label file", label_file, detail)
        else:
            self._add_lines(text, number, (size.height, size.width), label_file)

    def _existing(self, label_file: str) -> str:
        """The label file as its name is written on the disk."""
        folder, name = posixpath.split(label_file)
        if folder not in self._listings:
            self._listings[folder] = FolderListing(folder)
        return f"{folder}/{self._listings[folder].find(name) or name}"

    def _box(self, fields: list[str], width: int, height: int) -> list[float] | str:
        """(x, y, width, height) in pixels, or what is wrong with the line."""
        if not self._key_points or len(fields) == 5:
            return _box(fields, width, height)
        if len(fields) != 5 + self._key_points:
            return (
                f"{len(fields)} fields; a box has 5 (class, x, y, width, height), one with the key "
                f"points of kpt_shape {5 + self._key_points}"
            )
        return _box(fields[:5], width, height)

    def note_labels_without_image(self) -> None:
        """Label files that no image has."""
        for folder in sorted(set(self._folders.values())):
            for file in files_ending(Path(folder), ".txt"):
                path = f"{folder}/{file.name}"
                if path not in self._seen and _is_label_file(file):
                    detail = "has no image of its name; put it back or remove the label file"
                    self.builder.add_issue("missing file", path, detail)

    def _add_lines(self, text: str, number: int, size: tuple[int, int], label_file: str) -> None:
        height, width = size
        for position, line in enumerate(text.splitlines(), start=1):
            fields = line.split()
            if not fields:
                continue
            box = self._box(fields, width, height)
            if isinstance(box, str):
                self.builder.add_issue("bad annotation", label_file, f"line {position}: {box}")
            elif (category := int(float(fields[0])) + 1) not in self._known:
                detail = f"line {position}: class index {category - 1}; the names are for "
                detail += f"{_range(self._categories)}: correct the label or the names"
                self.builder.add_issue("unknown category", label_file, detail)
            else:
                self.builder.add_annotation(RawAnnotation(number, category, box), position)


def first_line(file: Path) -> str:
    """The first line with content; empty where there is none."""
    return read_start(file, _LINE_BYTES).strip().partition("\n")[0].rstrip()


def _is_label_file(file: Path) -> bool:
    """By its name and its first line: no list of names, or of images, and no description."""
    name = file.name.lower()
    lists_images = PurePosixPath(first_line(file)).suffix.lower() in EXTENSIONS
    return name not in NAME_FILES and not name.startswith("readme") and not lists_images


def folder_of(image: str) -> str:
    """The folder of a path with slashes; "." where it names none."""
    return posixpath.dirname(image) or "."


def _labels_folder(folder: str) -> str:
    parts = folder.split("/")
    if "images" not in parts:
        return folder
    last = len(parts) - 1 - parts[::-1].index("images")
    parts[last] = "labels"
    replaced = "/".join(parts)
    is_beside = not Path(replaced).is_dir() and bool(files_ending(Path(folder), ".txt"))
    return folder if is_beside else replaced


def _box(fields: list[str], width: int, height: int) -> list[float] | str:
    """(x, y, width, height) in pixels, or what is wrong with the line."""
    if len(fields) < 5 and any("," in field for field in fields):
        return f"fields must be separated by blanks, not commas: {shown(' '.join(fields))}"
    if len(fields) != 5 and (len(fields) < 7 or len(fields) % 2 == 0):
        return (
            f"{len(fields)} fields; a box has 5 (class, x, y, width, height), a polygon 7, 9, ..."
        )
    try:
        if not float(fields[0]).is_integer():
            raise ValueError
        values = [float(field) for field in fields[1:]]
    except (ValueError, OverflowError):
        return f"fields must be a whole number and coordinates, got {shown(' '.join(fields))}"
    outside = [value for value in values if not -_SLACK <= value <= 1 + _SLACK]
    if outside:
        return (
            f"coordinates must be normalised to 0..1, got {outside[0]:g}: divide pixels by the "
            "image's width and height"
        )
    if len(values) == 4:
        x, y, box_width, box_height = values
        return [
            *(x * width - box_width * width / 2, y * height - box_height * height / 2),
            *(box_width * width, box_height * height),
        ]
    left, right = min(values[::2]) * width, max(values[::2]) * width
    top, bottom = min(values[1::2]) * height, max(values[1::2]) * height
    return [left, top, right - left, bottom - top]


def _range(categories: Categories) -> str:
    last = categories.ids[-1] - 1
    return f"0..{last}" if len(categories) == last + 1 else f"{len(categories)} others"
