"""COCO JSON: one file, ``annotations/instances_*.json``, or Roboflow's export with a file a split.

Where the images are is found by their names: ``train2017/`` beside ``annotations/``, the folder of
the file, ``images/``, or a folder below.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

from igcv3det.datasets.coco import read_coco
from igcv3det.datasets.formats.folders import (
    ALL,
    Splits,
    by_split,
    files_ending,
    folders_of_splits,
    split_name,
)
from igcv3det.datasets.formats.image_folder import find_images_folder, last_word
from igcv3det.datasets.issues import AnnotationError
from igcv3det.datasets.subsets import SplitRecord
from igcv3det.datasets.text_files import read_start

ROBOFLOW = "_annotations.coco.json"
_SECTION = re.compile(r'"(images|annotations|categories)"\s*:')
_NOT_COCO = re.compile(r'"shapes"\s*:')
_HEAD_BYTES = 100_000
_MOST_FILES = 50  # a folder with more JSON files holds a file an image


def recognise(path: Path) -> str | None:
    """What shows that this is COCO's format."""
    if path.is_file():
        return path.name if path.suffix.lower() == ".json" and _is_coco(path) else None
    found = _files(path)
    return found[0].relative_to(path).as_posix() if found else None


def open_splits(path: Path) -> Splits:
    """How to read each split.

    Raises:
        AnnotationError: several files may be meant.
    """
    if path.is_file():
        return {ALL: partial(_read, path)}
    files = [(_split_text(file), file) for file in _files(path)]
    found = by_split(files, path, "COCO files")
    if not found:
        if len(files) > 1:
            listed = ", ".join(file.relative_to(path).as_posix() for _, file in files[:4])
            raise AnnotationError(
                f"{path}: several COCO files ({listed}): name the file that is meant"
            )
        found = {ALL: files[0][1]}
    return {name: partial(_read, file) for name, file in found.items()}


def _files(path: Path) -> list[Path]:
    """COCO files of a folder; of several kinds of annotations those of instances."""
    folders = (*folders_of_splits(path), path)
    if found := [f for folder in folders for f in files_ending(folder, ".json") if _is_export(f)]:
        return found
    for folder in (path / "annotations", path):
        files = files_ending(folder, ".json")
        if 0 < len(files) <= _MOST_FILES and any(map(_is_coco, files)):
            # an empty file of a split is refused when it is read
            found = [file for file in files if _is_coco(file) or _is_empty_split(file)]
            return [file for file in found if file.name.startswith("instances")] or found
    return []


def _split_text(file: Path) -> str:
    return file.parent.name if _is_export(file) else last_word(file)


def _is_export(file: Path) -> bool:
    return file.name.lower() == ROBOFLOW


def _is_coco(file: Path) -> bool:
    head = read_start(file, _HEAD_BYTES)
    is_object = head.lstrip("\ufeff \t\r\n").startswith("{")
    return is_object and bool(_SECTION.search(head)) and not _NOT_COCO.search(head)


def _is_empty_split(file: Path) -> bool:
    return split_name(last_word(file)) is not None and not read_start(file, 100).strip()


def _read(file: Path) -> SplitRecord:
    record = read_coco(file)
    names = list(record.images.names)
    text = _split_text(file)
    places = [] if _is_export(file) else [file.parent.parent, file.parent]
    likely = [folder for place in places for folder in (place / text, place / "images" / text)]
    return SplitRecord(record, find_images_folder(file, names, likely=likely))
