"""Files that must not be written over, and names for new ones."""

from __future__ import annotations

import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path


class FileSet:
    """Files by identity, so that links and other spellings of a name are the same file.

    Names that differ only in case or Unicode normalisation count as one, because some file systems
    store them as one. Files need not exist.

    Example:
        >>> Path("photos/../photos/A.png") in FileSet([Path("photos/a.png")])
        True

    Args:
        paths: the first members.
    """

    def __init__(self, paths: Iterable[Path] = ()) -> None:
        self._keys: set[str | tuple[int, int]] = set()
        for path in paths:
            self.add(path)

    def add(self, path: Path) -> None:
        """Makes a file a member."""
        self._keys.update(_keys(path))

    def __contains__(self, path: Path) -> bool:
        return not self._keys.isdisjoint(_keys(path))


class NewFiles:
    """Names for new files in a folder, none of which is written over another.

    Args:
        folder: made if it does not exist.
        protected: files that are never written over, such as all sources of the run.

    Raises:
        OSError: the folder cannot be made.
    """

    def __init__(self, folder: Path, protected: Iterable[Path] = ()) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OSError(f"{folder}: cannot be made: {error.strerror}") from error
        self.folder = folder
        self._taken = FileSet(protected)
        self._numbers: defaultdict[tuple[str, str], int] = defaultdict(int)

    def name(self, stem: str, suffix: str) -> Path:
        """A path that was not given before; a name that is taken gets a number."""
        while True:
            self._numbers[stem, suffix] += 1
            number = self._numbers[stem, suffix]
            path = self.folder / f"{stem}{suffix if number == 1 else f'_{number}{suffix}'}"
            if path not in self._taken:
                self._taken.add(path)
                return path


def _keys(path: Path) -> list[str | tuple[int, int]]:
    """The normalised real path, and device and inode of a file that exists."""
    name = unicodedata.normalize("NFC", os.path.realpath(path)).casefold()
    try:
        status = path.stat()
    except OSError:
        return [name]
    return [name, (status.st_dev, status.st_ino)]
