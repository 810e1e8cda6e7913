"""Sets of files that must not be written over."""

from __future__ import annotations

import os
import unicodedata
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


def _keys(path: Path) -> list[str | tuple[int, int]]:
    """The normalised real path, and device and inode of a file that exists."""
    name = unicodedata.normalize("NFC", os.path.realpath(path)).casefold()
    try:
        status = path.stat()
    except OSError:
        return [name]
    return [name, (status.st_dev, status.st_ino)]
