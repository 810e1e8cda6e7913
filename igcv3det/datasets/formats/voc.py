"""Pascal VOC: an XML file an image, in ``Annotations/``, ``annotations/`` or beside the images.

``xmin ymin xmax ymax`` are taken as edges in pixels from 0, as labelImg, CVAT and Roboflow write
them: x = xmin, width = xmax - xmin. Files of the VOC challenge itself count pixels from 1 and
include the last, so the left and top edges of their boxes come out a pixel too far in. Objects
marked ``difficult`` become crowd regions: as in VOC's evaluator, they are neither to be found nor
counted against the detector.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

from igcv3det.datasets.builder import RecordBuilder
from igcv3det.datasets.formats.folders import (
    ALL,
    ImagesByStem,
    Progress,
    Splits,
    by_split,
    files_below,
    files_ending,
    folders_of_splits,
    listed_names,
    read_names,
    split_folders,
    with_common_names,
    without_ending,
)
from igcv3det.datasets.formats.xml_events import read_xml, root_tag
from igcv3det.datasets.image_sizes import size_or_issue
from igcv3det.datasets.issues import AnnotationError
from igcv3det.datasets.listings import FolderListing
from igcv3det.datasets.record import AnnotationRecord
from igcv3det.datasets.subsets import SplitRecord
from igcv3det.datasets.values import shown

_XML = frozenset({".xml"})
_FOLDERS = ("Annotations", "annotations")
_LISTS = ("ImageSets", "Main")
_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_DIFFICULT = {"": 0, "unspecified": 0, "0": 0, "false": 0, "1": 1, "true": 1}
_LOOKED_AT = 5  # XML files of a folder: the first may be damaged


def recognise(path: Path) -> str | None:
    """What shows that this is Pascal VOC's format."""
    if path.is_file():
        is_voc = path.suffix.lower() == ".xml" and root_tag(path) == "annotation"
        return path.name if is_voc else None
    for folder in (*(path / name for name in _FOLDERS), *folders_of_splits(path), path):
        for file in files_ending(folder, ".xml")[:_LOOKED_AT]:
            if root_tag(file) == "annotation":
                return file.relative_to(path).as_posix()
    return None


def open_splits(path: Path, progress: Progress | None = None) -> Splits:
    """How to read each split; the first that is read reads all, for their classes."""
    if path.is_file():
        path = path.parent

    @cache
    def read_all() -> dict[str, SplitRecord]:
        places = _places(path)
        images: dict[Path, ImagesByStem] = {}
        for place in places.values():
            if place.images not in images:
                images[place.images] = ImagesByStem(place.images)
        names = read_names(path)
        records = {
            name: _read(path, place, images[place.images], names, progress)
            for name, place in places.items()
        }
        common = with_common_names(records, names)
        return {name: SplitRecord(common[name], place.images) for name, place in places.items()}

    def read(split: str) -> SplitRecord:
        return read_all()[split]

    return {name: partial(read, name) for name in _places(path)}


class _Place(NamedTuple):
    """Where a split is.

    Attributes:
        annotations: folder of XML files.
        images: their folder.
        listed: file that names the images; None takes all.
        left_out: file that names those of them that are not of the split.
    """

    annotations: Path
    images: Path
    listed: Path | None
    left_out: Path | None = None


class _Object:
    """An object as its file has it."""

    def __init__(self, line: int) -> None:
        self.line = line
        self.name = ""
        self.difficult = "0"
        self.corners: dict[str, str] = {}


class _Annotation:
    """The content of an XML file."""

    def __init__(self, path: Path) -> None:
        self.file_name = ""
        self.size: dict[str, str] = {}
        self.objects: list[_Object] = []
        self._open: list[str] = []
        read_xml(path, self._start, self._end)

    def _start(self, tag: str, attributes: dict[str, str], line: int) -> None:
        if tag == "object":
            self.objects.append(_Object(line))
        self._open.append(tag)

    def _end(self, tag: str, text: str, line: int) -> None:
        self._open.pop()
        parent = self._open[-1] if self._open else ""
        if parent == "object" and tag in ("name", "difficult"):
            setattr(self.objects[-1], tag, text)
        elif parent == "bndbox" and self._open[-2:-1] == ["object"] and tag in _CORNERS:
            self.objects[-1].corners[tag] = text
        elif parent == "size":
            self.size[tag] = text
        elif tag == "filename" and len(self._open) == 1:
            self.file_name = text


def _annotations_folder(path: Path) -> Path | None:
    """The folder of all XML files; in lower case it may be that of another format's files."""
    upper, lower = (path / name for name in _FOLDERS)
    if upper.is_dir():
        return upper
    return lower if lower.is_dir() and next(files_below(lower, _XML), None) else None


def _places(path: Path) -> dict[str, _Place]:
    annotations = _annotations_folder(path)
    if annotations is None:
        folders = split_folders(path, lambda folder: bool(files_ending(folder, ".xml")))
        return {name: _Place(place, place, None) for name, place in folders.items()} or {
            ALL: _Place(path, path, None)
        }
    images = next((p for n in ("JPEGImages", "images") if (p := path / n).is_dir()), path)
    files = files_ending(path.joinpath(*_LISTS), ".txt")
    lists = by_split([(file.stem, file) for file in files], path, "lists")
    trainval = [file for file in files if file.stem == "trainval"]
    places = {name: _Place(annotations, images, file) for name, file in lists.items()}
    if "train" not in lists and trainval:
        train = _Place(annotations, images, trainval[0], lists.get("val"))
        places = {"train": train, **places}
    return places or {ALL: _Place(annotations, images, None)}


def _read(
    path: Path,
    place: _Place,
    images: ImagesByStem,
    class_names: Sequence[str] | None,
    progress: Progress | None,
) -> AnnotationRecord:
    """Reads the XML files of a split.

    Raises:
        AnnotationError: there are none.
    """
    builder = RecordBuilder(path, position_text="line {}", class_names=class_names)
    names = _label_files(place)
    for number, (name, line) in enumerate(names, start=1):
        if progress is not None:
            progress(number, len(names))
        file = place.annotations / name
        try:
            annotation = _Annotation(file)
        except AnnotationError as error:
            if line and not file.exists():
                detail = f"line {line}: {file}: no such file; add it or remove the line"
                builder.add_issue("missing label file", place.listed or path, detail)
            else:
                detail = f"{str(error).removeprefix(f'{file}: ')}; the image is left out"
                builder.add_issue("unreadable label file", file, detail)
            continue
        image = images.find(without_ending(name), annotation.file_name)
        _add(builder, number, file, annotation, place.images, image)
    if not names:
        raise AnnotationError(f"{place.listed or place.annotations}: names no XML file")
    if place.listed is None:
        for unused in images.unused({without_ending(name) for name, _ in names}):
            detail = f"has no XML file of its own in {place.annotations}, so it is not used"
            builder.add_issue("unlabelled image", place.images / unused, detail)
    return builder.build()


def _add(
    builder: RecordBuilder,
    number: int,
    file: Path,
    annotation: _Annotation,
    folder: Path,
    image: str | None,
) -> None:
    """Adds an image and its objects."""
    if image is None:
        detail = f"no image of this name, or named {shown(annotation.file_name)}, in {folder}"
        builder.add_issue("missing file", file, f"{detail}; put it back or remove the XML file")
        return
    stated = annotation.size.get("height"), annotation.size.get("width")
    size = size_or_issue(builder, folder / image, stated, file, "the image is left out")
    if size is None:
        return
    builder.add_image(
        number, image, size.width, size.height, label_file=file, is_upright=size.is_upright
    )
    for item in annotation.objects:
        box = _box(item.corners)
        difficult = _DIFFICULT.get(item.difficult.lower())
        if isinstance(box, str) or not item.name or difficult is None:
            reason = box if isinstance(box, str) else f"difficult is {shown(item.difficult)}"
            reason = reason if item.name else "an object without a name"
            builder.add_issue("bad annotation", file, f"line {item.line}: {reason}")
        else:
            builder.add_named(number, item.name, box, item.line, is_crowd=difficult)


def _box(corners: dict[str, str]) -> list[float] | str:
    """(x, y, width, height), or what is wrong."""
    missing = [name for name in _CORNERS if name not in corners]
    if missing:
        return f"an object without {', '.join(missing)} in its bndbox"
    try:
        left, top, right, bottom = (float(corners[name]) for name in _CORNERS)
    except ValueError:
        return f"bndbox must have numbers, got {shown(corners)}"
    return [left, top, right - left, bottom - top]


def _label_files(place: _Place) -> list[tuple[str, int]]:
    """XML files of a split below the folder of them, and the line of the list that names each."""
    if place.listed is None:
        return [(name, 0) for name in files_below(place.annotations, _XML)]
    listing, found = FolderListing(place.annotations), []
    for number, line in listed_names(place.listed):
        # a class's list has a number after the name; a name may have blanks of its own
        is_name = len(line.split()) == 1 or listing.find(f"{line}.xml") is not None
        name = f"{line if is_name else line.split()[0]}.xml"
        found.append((listing.find(name) or name, number))
    if place.left_out is None:
        return found
    others = {name for name, _ in _label_files(_Place(*place[:2], place.left_out))}
    return [(name, number) for name, number in found if name not in others]
