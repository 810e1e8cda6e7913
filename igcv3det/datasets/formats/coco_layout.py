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
    find_images_folder,
    folders_of_splits,
    split_name,
)
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
    return file.parent.name if _is_export(file) else _token(file)


def _is_export(file: Path) -> bool:
    return file.name.lower() == ROBOFLOW


def _is_coco(file: Path) -> bool:
    head = read_start(file, _HEAD_BYTES)
    is_object = head.lstrip("\ufeff \t\r\n").startswith("{")
    return is_object and bool(_SECTION.search(head)) and not _NOT_COCO.search(head)


def _is_empty_split(file: Path) -> bool:
    return split_name(_token(file)) is not None and not read_start(file, 100).strip()


def _token(file: Path) -> str:
    """The last word of a file's name: train2017 of instances_train2017.json."""
    return re.split(r"[_.\-]", file.stem)[-1]


def _read(file: Path) -> SplitRecord:
    record = read_coco(file)
    names = [entry.file_name for entry, _ in zip(record.images, range(20), strict=False)]
    root, token = file.parent.parent, _token(file)
    likely = [root / token, root / "images" / token] if not _is_export(file) else []
    return SplitRecord(record, find_images_folder(file.parent, names, likely))
