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
    SPLITS,
    Splits,
    find_images_folder,
    split_folders,
    split_name,
)
from igcv3det.datasets.issues import AnnotationError
from igcv3det.datasets.subsets import SplitRecord

ROBOFLOW = "_annotations.coco.json"
_SECTION = re.compile(rb'"(images|annotations|categories)"\s*:')
_NOT_COCO = re.compile(rb'"shapes"\s*:')
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
    named: dict[str, list[Path]] = {}
    files = _files(path)
    for file in files:
        split = split_name(file.parent.name if file.name == ROBOFLOW else _token(file))
        named.setdefault(split or ALL, []).append(file)
    if set(named) != {ALL}:
        named.pop(ALL, None)
    for split, several in named.items():
        if len(several) > 1:
            listed = ", ".join(file.relative_to(path).as_posix() for file in several[:4])
            raise AnnotationError(
                f"{path}: several COCO files for {split} ({listed}): name the file that is meant"
            )
    order = [name for name in (*SPLITS, ALL) if name in named]
    return {name: partial(_read, named[name][0]) for name in order}


def _files(path: Path) -> list[Path]:
    """COCO files of a folder; of several kinds of annotations those of instances."""
    exports = [folder / ROBOFLOW for folder in (*split_folders(path).values(), path)]
    if found := [file for file in exports if file.is_file()]:
        return found
    for folder in (path / "annotations", path):
        files = sorted(folder.glob("*.json")) if folder.is_dir() else []
        if 0 < len(files) <= _MOST_FILES and (found := [f for f in files if _is_coco(f)]):
            return [file for file in found if file.name.startswith("instances")] or found
    return []


def _is_coco(file: Path) -> bool:
    try:
        with file.open("rb") as stream:
            head = stream.read(_HEAD_BYTES)
    except OSError:
        return False
    is_object = head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{")
    return is_object and bool(_SECTION.search(head)) and not _NOT_COCO.search(head)


def _token(file: Path) -> str:
    """The last word of a file's name: train2017 of instances_train2017.json."""
    return re.split(r"[_.\-]", file.stem)[-1]


def _read(file: Path) -> SplitRecord:
    record = read_coco(file)
    names = [entry.file_name for entry, _ in zip(record.images, range(20), strict=False)]
    root, token = file.parent.parent, _token(file)
    likely = [root / token, root / "images" / token] if file.name != ROBOFLOW else []
    return SplitRecord(record, find_images_folder(file.parent, names, likely))
