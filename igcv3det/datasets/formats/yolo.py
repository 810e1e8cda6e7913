"""YOLO: ``data.yaml``, images, and beside each ``images/`` a ``labels/`` with a text file an image.

A line is a class index and centre x, centre y, width, height as shares of the image, or a class
index and the corners of a polygon, of which the extent is taken. With ``kpt_shape`` in
``data.yaml`` key points follow the box, which are not read. Category ids are index + 1.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from igcv3det.datasets.formats.folders import (
    ALL,
    NAME_FILES,
    SPLITS,
    Progress,
    Splits,
    by_split,
    files_below,
    files_ending,
    folders_of_splits,
    images_below,
    is_below,
    listed_names,
    read_names,
    split_folders,
)
from igcv3det.datasets.formats.yolo_labels import LabelReader, first_line, folder_of
from igcv3det.datasets.issues import AnnotationError
from igcv3det.datasets.listings import FolderListing
from igcv3det.datasets.subsets import SplitRecord
from igcv3det.datasets.values import shown, whole_number
from igcv3det.io.images import EXTENSIONS
from igcv3det.structures import Categories
from igcv3det.yaml_files import read_yaml, read_yaml_texts

_LABELS = frozenset({".txt"})
_YAML = (".yaml", ".yml")
_LOOKED_AT = 20  # text files: the first may be no labels
_CVAT_FOLDER = re.compile(r"obj_(\w+)_data")
_LINE = re.compile(r"\s*\d+([\s,]+-?[\d.eE+-]+){4,}\s*")


def recognise(path: Path) -> str | None:
    """What shows that this is YOLO's format."""
    if path.is_file():
        is_yaml = path.suffix.lower() in _YAML
        return path.name if is_yaml and _is_description(path) else None
    if (description := _description(path)) is not None:
        return description.name
    for folder in (path / "labels", *(part / "labels" for part in folders_of_splits(path))):
        if folder.is_dir() and next(files_below(folder, _LABELS), None):
            return f"{folder.relative_to(path)}/*.txt"
    found = _file_beside_images(path)
    return None if found is None else found.relative_to(path).as_posix()


def _file_beside_images(path: Path) -> Path | None:
    """One of the first text files with content that has boxes.

    In the folder; if it has the names of the classes, also below it, beside images.
    """
    is_named = any(map(FolderListing(path).find, NAME_FILES))
    files = map(path.joinpath, files_below(path, _LABELS)) if is_named else None
    lines = ((f, first_line(f)) for f in files or files_ending(path, ".txt"))
    with_content = ((f, line) for f, line in lines if line and f.name.lower() not in NAME_FILES)
    for file, line in islice(with_content, _LOOKED_AT):
        if _LINE.fullmatch(line) and (file.parent == path or _has_image(file.parent)):
            return file
    return None


def open_splits(path: Path, progress: Progress | None = None) -> Splits:
    """How to read each split.

    Raises:
        AnnotationError: there are no names of classes, or no images.
    """
    file = path if path.is_file() else _description(path)
    if file is None:
        names = read_names(path) or read_names(path / "labels")
        if names is None:
            raise AnnotationError(
                f"{path}: YOLO labels without names: add a data.yaml with 'names: [cat, dog]', or "
                "a classes.txt with a name a line"
            )
        categories = _categories(path, dict(enumerate(names)))
        found = {name: [folder] for name, folder in _image_folders(path).items()}
        return {
            name: partial(_read, path, name, categories, places, progress)
            for name, places in found.items()
        }
    content = read_yaml(file)
    categories = _categories(file, _names(file, content))
    key_points = _key_points(file, content.get("kpt_shape"))
    return {
        name: partial(_read, file, name, categories, places, progress, key_points)
        for name, places in _places(file, content).items()
    }


def reads_outside(path: Path) -> bool:
    """Whether ``data.yaml`` names folders or lists that are not in its own folder or below."""
    file = path if path.is_file() else _description(path)
    if file is None:
        return False
    named = [place for places in _places(file, read_yaml(file)).values() for place in places]
    return not all(is_below(place, file.parent) for place in named if place.exists())


def _places(file: Path, content: dict[str, Any]) -> dict[str, list[Path]]:
    """The folders and lists of each split, as ``data.yaml`` names them or by their own names."""
    root = _root(file, content.get("path"))
    places: dict[str, list[Path]] = {}
    for key in SPLITS:
        given = content.get(key) or (content.get("valid") if key == "val" else None)
        if given:
            places[key] = [_place(file, root, str(one)) for one in _listed(given)]
    return places or {name: [folder] for name, folder in _image_folders(file.parent).items()}


def _is_description(path: Path) -> bool:
    try:
        content = read_yaml(path)
    except (OSError, ValueError) as error:
        if path.stem == "data":
            raise AnnotationError(str(error)) from error
        return False
    return isinstance(content, dict) and "names" in content and "model" not in content


def _description(folder: Path) -> Path | None:
    return next((file for file in files_ending(folder, *_YAML) if _is_description(file)), None)


def _names(file: Path, content: dict[str, Any]) -> dict[int, str]:
    """Names of the classes by index."""
    names, count = read_yaml_texts(file)["names"], content.get("nc")
    if isinstance(names, list):
        names = dict(enumerate(names))
    try:
        known = {_index(index): str(name) for index, name in names.items()}
    except (AttributeError, TypeError, ValueError):
        raise AnnotationError(
            f"{file}: names must be a list, or map class indices to names, got {shown(names)}"
        ) from None
    if count is not None and count != len(known):
        raise AnnotationError(f"{file}: nc is {shown(count)}, but names has {len(known)} names")
    return dict(sorted(known.items()))


def _index(text: str | int) -> int:
    """A whole number as YAML writes it: 3, 03, 0x3."""
    try:
        return int(str(text), 0)
    except ValueError:
        return int(text)


def _key_points(file: Path, given: object) -> int:
    """Values of a line after the box: key points, by ``kpt_shape`` of pose data."""
    if given is None:
        return 0
    counts = [whole_number(one) or 0 for one in given] if isinstance(given, list) else []
    if len(counts) != 2 or min(counts) < 1:
        raise AnnotationError(
            f"{file}: kpt_shape must be two whole numbers, as [17, 3], got {shown(given)}"
        )
    return counts[0] * counts[1]


def _categories(file: Path, names: dict[int, str]) -> Categories:
    if not names or min(names) < 0:
        raise AnnotationError(f"{file}: names: needs at least one, with indices from 0 up")
    return Categories(tuple(index + 1 for index in names), tuple(names.values()))


def _root(file: Path, given: object) -> Path:
    """The folder that the splits start from: ``path``, where it exists, else that of the file."""
    root = file.parent / str(given) if given else file.parent
    return root if root.is_dir() else file.parent


def _listed(given: object) -> list[object]:
    return given if isinstance(given, list) else [given]


def _place(file: Path, root: Path, given: str) -> Path:
    """A folder or list of images; Roboflow writes ``../train/images`` for ``train/images``.

    One that is not there is refused when its split is read: the others can be used without it.
    """
    names = [given, given.removeprefix("../"), *(given.removeprefix("./").split("../")[-1:])]
    for folder in (root, file.parent):
        for name in names:
            if (place := FolderListing(folder).path(name)).exists():
                return place
    return root / given


def _image_folders(path: Path) -> dict[str, Path]:
    """The folders of images by split, without a ``data.yaml`` that names them."""
    exported = [(m[1], p) for p in path.iterdir() if (m := _CVAT_FOLDER.fullmatch(p.name))]
    if found := by_split(exported, path, "folders"):
        return found
    images = path / "images" if (path / "images").is_dir() else path
    return split_folders(images, _has_image) or {ALL: images}


def _has_image(folder: Path) -> bool:
    return next(files_below(folder, frozenset(EXTENSIONS)), None) is not None


def _images(place: Path) -> Iterator[Path]:
    """Images of a folder, or of a text file with one a line."""
    if place.is_dir():
        yield from (place / name for name in images_below(place))
        return
    listing = FolderListing(place.parent)
    for _, name in listed_names(place):
        yield listing.path(name)


def _read(
    file: Path,
    split: str,
    categories: Categories,
    places: Sequence[Path],
    progress: Progress | None,
    key_points: int = 0,
) -> SplitRecord:
    """Reads the images of some folders or lists.

    Raises:
        AnnotationError: a place is not there, there are no images, or none has a label file.
    """
    if (gone := next((place for place in places if not place.exists()), None)) is not None:
        raise AnnotationError(f"{file}: {split}: {gone}: no such folder or list of images")
    found = [image for place in places for image in _images(place)]
    if not found:
        raise AnnotationError(f"{file}: no images in {', '.join(map(str, places))}")
    if len({image.is_absolute() for image in found}) > 1:
        found = [image.absolute() for image in found]
    images = [image.as_posix() for image in found]
    root = os.path.commonpath({folder_of(image) for image in images})
    reader = LabelReader(file, categories, root, key_points)
    for done, image in enumerate(images, start=1):
        reader.add(image)
        if progress is not None:
            progress(done, len(images))
    if not reader.found:
        raise AnnotationError(
            f"{file}: none of {len(images)} images has a label file; that of {images[0]} should be "
            f"{reader.label_file(images[0])}"
        )
    if all(place.is_dir() for place in places):  # a list may leave out images of its folder
        reader.note_labels_without_image()
    return SplitRecord(reader.builder.build(), Path(root))
