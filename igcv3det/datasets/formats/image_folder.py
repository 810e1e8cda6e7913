"""The folder of the images of an annotation file that names them without saying where they are."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from pathlib import Path

from igcv3det.datasets.formats.folders import ALL, files_ending, split_name, walk
from igcv3det.datasets.issues import AnnotationError
from igcv3det.datasets.listings import FolderListing, is_file

logger = logging.getLogger(__name__)

_LOOKED_AT = (20, 200)  # images: the second where none of the first is there
_SEARCHED_FOLDERS = 2000
_OF_ANNOTATIONS = (".csv", ".json", ".xml", ".yaml", ".yml")


def last_word(file: Path) -> str:
    """The last word of a file's name.

    Example:
        >>> last_word(Path("instances_train2017.json"))
        'train2017'
    """
    return re.split(r"[_.\-]", file.stem)[-1]


def find_images_folder(
    file: Path, names: Sequence[str], split: str = ALL, likely: Sequence[Path] = ()
) -> Path:
    """The folder that file names start from, so that the most of them exist.

    The likely ones, that of the file, ``images`` in it and beside it, else the folders below it,
    else those beside it and in ``images`` beside it, but none with annotations: that is another
    data set. Splits may number their images alike, so a folder that is named after the split comes
    first, and one that is named after another split last.

    Args:
        file: the annotation file.
        names: file names of all images.
        split: of these images; "all" takes the one that the file or its folder is named after.
        likely: folders to look in first.

    Returns:
        The folder of the file where nothing fits.

    Raises:
        AnnotationError: the folders of two splits fit equally well, and the file is of neither.
    """
    start = file.parent
    if split == ALL:
        split = split_name(last_word(file)) or split_name(start.name) or ALL
    near = [*likely, start, start / "images", start.parent / "images", start.parent]
    for most in _LOOKED_AT:
        step = -(-len(names) // most) or 1
        looked_at = [name.replace("\\", "/") for name in names[::step]]
        for listed in (lambda _: near, _below, _beside):
            for counted in (_count, _count_listed):
                best = _best(listed(start), partial(counted, looked_at), split, file)
                if best is not None:
                    return best
    return start


def _count(names: Sequence[str], folder: Path) -> int:
    return sum(is_file(folder / name) for name in names)


def _count_listed(names: Sequence[str], folder: Path) -> int:
    """Those that are there, also written otherwise."""
    listing = FolderListing(folder)
    return sum(listing.find(name) is not None for name in names)


def _below(start: Path) -> list[Path]:
    return [Path(place) for place, _ in islice(walk(start), _SEARCHED_FOLDERS)]


def _beside(start: Path) -> list[Path]:
    folders = [*_folders_in(start.parent), *_folders_in(start.parent / "images")]
    return [folder for folder in folders if not files_ending(folder, *_OF_ANNOTATIONS)]


def _best(
    folders: Sequence[Path], counted: Callable[[Path], int], split: str, file: Path
) -> Path | None:
    """The folder with the most images, those of other splits last; None without any."""
    counts = {folder: found for folder in folders if (found := counted(folder))}
    if not counts:
        return None
    splits = {folder: _split_of(folder, file.parent.parent) for folder in counts}
    own = None if split == ALL else split
    possible = [folder for folder in counts if own is None or splits[folder] in (None, own)]
    possible = possible or [*counts]
    most = max(counts[folder] for folder in possible)
    equal = [folder for folder in counts if counts[folder] == most]
    best = max(possible, key=lambda folder: (counts[folder], splits[folder] == own))
    if split != ALL and splits[best] not in (None, split):
        logger.warning("%s: its images are taken from %s, of another split", file, best)
    if split == ALL and splits[best] and len({splits[folder] for folder in equal}) > 1:
        listed = ", ".join(str(folder) for folder in equal[:4])
        raise AnnotationError(
            f"{file}: several folders have images of its names ({listed}): put the file into its "
            "folder, or name it after its split"
        )
    return best


def _split_of(folder: Path, root: Path) -> str | None:
    """The split that a folder, or one that it is in, is named after."""
    parts = Path(os.path.relpath(folder, root)).parts
    return next((split for part in reversed(parts) if (split := split_name(part))), None)


def _folders_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*") if path.is_dir())
