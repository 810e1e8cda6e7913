"""What the folders of data sets have in common: names of splits, and where the images are."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from igcv3det.datasets.issues import AnnotationError
from igcv3det.datasets.record import AnnotationRecord
from igcv3det.datasets.subsets import SplitRecord, with_categories
from igcv3det.datasets.text_files import read_text
from igcv3det.datasets.values import shown
from igcv3det.io.images import EXTENSIONS
from igcv3det.structures import Categories

Splits = dict[str, Callable[[], SplitRecord]]
"""How to read each split: "train", "val", "test", or "all" where the data has none."""
ALL = "all"
SPLITS: tuple[str, ...] = ("train", "val", "test")
NAME_FILES = ("classes.txt", "labels.txt", "obj.names")
"""Files with the names of the classes, one a line, in their order."""
_SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_SEARCHED_FOLDERS = 2000


def split_name(text: str) -> str | None:
    """The split that a folder or file is named after.

    Example:
        >>> [split_name(text) for text in ("train2017", "valid", "images")]
        ['train', 'val', None]
    """
    return _SPLITS.get(re.sub(r"\d+$", "", text.lower()))


def split_folders(folder: Path) -> dict[str, Path]:
    """The folders in it that are named after splits, in the order train, val, test."""
    found = {split_name(path.name): path for path in sorted(folder.iterdir()) if path.is_dir()}
    return {name: found[name] for name in SPLITS if name in found}


def files_below(folder: Path, suffixes: frozenset[str]) -> Iterator[str]:
    """Files with one of these endings, sorted, relative to the folder; hidden ones are left out."""
    root = str(folder)
    for place, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        below = os.path.relpath(place, root)
        prefix = "" if below == "." else f"{below}/".replace(os.sep, "/")
        for name in sorted(names):
            if PurePosixPath(name).suffix.lower() in suffixes and not name.startswith("."):
                yield prefix + name


def without_ending(name: str) -> str:
    """A path without the ending of its file.

    Example:
        >>> without_ending("a.b/0001.rf.jpg")
        'a.b/0001.rf'
    """
    return PurePosixPath(name).with_suffix("").as_posix()


def images_below(folder: Path) -> list[str]:
    """The images in a folder and below it, in the order of their names."""
    return sorted(files_below(folder, frozenset(EXTENSIONS)))


def find_images_folder(start: Path, names: Sequence[str], likely: Sequence[Path] = ()) -> Path:
    """The folder that file names start from, so that the most of them exist.

    The likely ones, ``start`` itself, ``images`` in it and beside it, else the folders below it and
    beside it.

    Args:
        start: folder of the annotation file.
        names: file names of some images.
        likely: folders to look in first.

    Returns:
        ``start`` where nothing fits.
    """
    names = [name.replace("\\", "/") for name in names[:20]]

    def count(folder: Path) -> int:
        return sum((folder / name).is_file() for name in names)

    near = [*likely, start, start / "images", start.parent / "images", start.parent]
    best = max(near, key=count)
    if not count(best):
        walk = (Path(place) for place, _, _ in os.walk(start))
        below = [folder for folder, _ in zip(walk, range(_SEARCHED_FOLDERS), strict=False)]
        best = max([*below, *_folders_in(start.parent)], key=count)
    return best if count(best) else start


class ImagesByStem:
    """Images of a folder by name and by name without ending, for labels that name an image.

    Args:
        folder: of the images, with folders below it.
    """

    def __init__(self, folder: Path) -> None:
        self.names = images_below(folder)
        self._known = set(self.names)
        self._by_stem: dict[str, str] = {}
        for name in self.names:
            self._by_stem.setdefault(without_ending(name), name)

    def find(self, stem: str, given: str | None) -> str | None:
        """The image of a label file.

        Args:
            stem: of the label file, with folders; its own image has the same.
            given: the name that the label file gives, which may be out of date.
        """
        found = self._by_stem.get(stem)
        if found is None and given:
            name = os.path.normpath(given.replace("\\", "/"))
            base = PurePosixPath(name).name
            beside = PurePosixPath(stem).with_name(base).as_posix()
            for known in (name, beside, base):
                if known in self._known:
                    return known
        return found


def listed_names(path: Path) -> list[tuple[int, str]]:
    """The lines of a text file that names images, with their numbers; blank ones are left out.

    Raises:
        FileNotFoundError: there is no such file.
        AnnotationError: it is no text, or a line is no name of a file.
    """
    lines = [(n, line.strip()) for n, line in enumerate(read_text(path).splitlines(), start=1)]
    for number, line in lines:
        if "\0" in line:
            raise AnnotationError(f"{path}: line {number}: no name of a file: {shown(line)}")
    return [(number, line) for number, line in lines if line]


def read_names(folder: Path) -> list[str] | None:
    """The classes of the first file of ``NAME_FILES`` in a folder; None if there is none."""
    for name in NAME_FILES:
        path = folder / name
        if path.is_file():
            return [line.strip() for line in read_text(path).splitlines() if line.strip()]
    return None


def with_common_names(
    records: Mapping[str, AnnotationRecord], names: Sequence[str] | None
) -> dict[str, AnnotationRecord]:
    """Splits that were read one by one, with the same classes.

    Args:
        records: by split.
        names: of the classes, in order; None sorts those that occur.

    Returns:
        The records with ids 1, 2, ... in the order of the names.

    Raises:
        AnnotationError: a class that occurs is not among ``names``.
    """
    if names is None:
        names = sorted({name for record in records.values() for name in record.categories.names})
    common = Categories(tuple(range(1, len(names) + 1)), tuple(names))
    return {split: with_categories(record, common) for split, record in records.items()}


def _folders_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir())
