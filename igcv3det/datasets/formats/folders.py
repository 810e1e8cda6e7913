"""What the folders of data sets have in common: names of splits, and where the images are."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from igcv3det.datasets.issues import AnnotationError
from igcv3det.datasets.listings import FolderListing, common_form
from igcv3det.datasets.record import AnnotationRecord
from igcv3det.datasets.subsets import SplitRecord, with_categories
from igcv3det.datasets.text_files import read_text
from igcv3det.datasets.values import shown
from igcv3det.io.folders import files_in
from igcv3det.io.images import EXTENSIONS
from igcv3det.structures import Categories

Splits = dict[str, Callable[[], SplitRecord]]
"""How to read each split: "train", "val", "test", or "all" where the data has none."""
Progress = Callable[[int, int], None]
"""Takes the number of images read and that of all."""
ALL = "all"
SPLITS: tuple[str, ...] = ("train", "val", "test")
NAME_FILES = ("classes.txt", "labels.txt", "obj.names")
"""Files with the names of the classes, one a line, in their order."""
_SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}


def split_name(text: str) -> str | None:
    """The split that a folder or file is named after.

    Example:
        >>> [split_name(text) for text in ("train2017", "valid", "images")]
        ['train', 'val', None]
    """
    return _SPLITS.get(re.sub(r"\d+$", "", text.lower()))


def by_split(named: Iterable[tuple[str, Path]], root: Path, what: str) -> dict[str, Path]:
    """The file or folder of each split, in the order train, val, test.

    Args:
        named: name and place of each; those of no split are left out.
        root: folder that messages start from.
        what: they are, for messages.

    Raises:
        AnnotationError: several are named after the same split (train2014, train2017).
    """
    found: dict[str | None, list[Path]] = {}
    for name, place in named:
        found.setdefault(split_name(name), []).append(place)
    for split in SPLITS:
        if len(several := found.get(split, [])) > 1:
            listed = ", ".join(one.relative_to(root).as_posix() for one in several[:4])
            raise AnnotationError(
                f"{root}: several {what} for {split} ({listed}): name the one that is meant, or "
                "move the others away"
            )
    return {split: found[split][0] for split in SPLITS if split in found}


def folders_of_splits(folder: Path) -> list[Path]:
    """All folders in it that are named after splits."""
    return [path for path in sorted(folder.iterdir()) if split_name(path.name) and path.is_dir()]


def split_folders(folder: Path, holds: Callable[[Path], bool]) -> dict[str, Path]:
    """The folders in it that are named after splits and hold a split's data.

    Raises:
        AnnotationError: several are named after the same split.
    """
    places = [(path.name, path) for path in folders_of_splits(folder) if holds(path)]
    return by_split(places, folder, "folders")


def files_ending(folder: Path, *suffixes: str) -> list[Path]:
    """Files in a folder, by `files_in`; one that is not there has none."""
    return files_in(folder, suffixes) if folder.is_dir() else []


def walk(root: str | Path) -> Iterator[tuple[str, list[str]]]:
    """Folders, each before those in it, and the names of their files, sorted.

    Links to folders are followed, unless they lead to a folder that they are in. Hidden files and
    folders, and links to nothing, are left out.
    """
    yield from _walk(str(root), frozenset())


def _walk(place: str, above: frozenset[tuple[int, int]]) -> Iterator[tuple[str, list[str]]]:
    status = Path(place).stat()
    own = (status.st_dev, status.st_ino)
    if own in above:
        return
    folders, names = [], []
    with os.scandir(place) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            try:
                if entry.is_dir():
                    folders.append(entry.name)
                elif entry.is_file():
                    names.append(entry.name)
            except OSError:  # a link to itself
                continue
    yield place, sorted(names)
    for name in sorted(folders):
        yield from _walk(f"{place}/{name}", above | {own})


def is_below(place: Path, root: Path) -> bool:
    """Whether `walk` of the root passes a file or folder of this path; links are not resolved."""
    return Path(os.path.abspath(place)).is_relative_to(os.path.abspath(root))  # noqa: PTH100 (..)


def files_below(folder: Path, suffixes: frozenset[str]) -> Iterator[str]:
    """Files with one of these endings, relative to the folder, as `walk` finds them."""
    start = len(str(folder)) + 1
    for place, names in walk(folder):
        prefix = f"{place[start:]}/" if len(place) > start else ""
        for name in names:
            if PurePosixPath(name).suffix.lower() in suffixes:
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


class ImagesByStem:
    """Images of a folder by name and by name without ending, for labels that name an image.

    Names are compared as by `FolderListing`: as they stand, else in their common form.

    Args:
        folder: of the images, with folders below it.
    """

    def __init__(self, folder: Path) -> None:
        self._names = images_below(folder)
        common = {common_form(name): name for name in reversed(self._names)}
        self._known = common | {name: name for name in self._names}
        self._by_stem = {_stem(name): name for name in reversed(self._names)}
        self._by_stem |= {without_ending(name): name for name in reversed(self._names)}
        self._used: set[str] = set()

    def find(self, stem: str, given: str | None) -> str | None:
        """The image of a label file.

        Args:
            stem: of the label file, with folders; its own image has the same.
            given: the name that the label file gives, which may be out of date: relative to the
                label file or to the folder. It decides between images of the same stem.
        """
        found = self._by_stem.get(stem) or self._by_stem.get(_composed(stem))
        if given and (found is None or not found.endswith(given)):
            found = self._named(stem, given, found)
        if found is not None:
            self._used.add(found)
        return found

    def _named(self, stem: str, given: str, same_stem: str | None) -> str | None:
        given = given.replace("\\", "/")
        name, relative = os.path.normpath(given), os.path.normpath(f"{stem}/../{given}")
        base = PurePosixPath(name).name
        beside = PurePosixPath(stem).with_name(base).as_posix() if base else stem
        if same_stem is not None:
            own = self._actual(beside)
            return own if own is not None and _stem(own) == _composed(stem) else same_stem
        places = (relative, name, beside, base)
        return next((known for place in places if (known := self._actual(place))), None)

    def _actual(self, name: str) -> str | None:
        """The name of an image as it is on the disk."""
        return self._known.get(name) or self._known.get(common_form(name))

    def unused(self, stems: Collection[str]) -> Iterator[str]:
        """Images that no label file has, in the order of their names.

        Args:
            stems: of all label files; the image of one that could not be read is not named again.
        """
        used, labelled = {_stem(name) for name in self._used}, {_composed(stem) for stem in stems}
        for name in self._names:
            stem = _stem(name)
            if name not in self._used and (stem not in labelled or stem in used):
                yield name


def _composed(stem: str) -> str:
    return unicodedata.normalize("NFC", stem)


def _stem(name: str) -> str:
    """What the names of an image and of its label file have in common."""
    return _composed(without_ending(name))


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
    listing = FolderListing(folder)
    for name in NAME_FILES:
        path = listing.path(name)
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
    common = Categories.of_names(names)
    return {split: with_categories(record, common) for split, record in records.items()}
