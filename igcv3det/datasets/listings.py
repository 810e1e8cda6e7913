"""Files by the names that annotations and layouts give them, which may differ in writing."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path, PurePosixPath


class FolderListing:
    """Finds the files of a folder, and of those below it, by name.

    A name is taken as it stands; else letters with accents may be in another Unicode form (macOS
    decomposes them), and the ending in another letter case (``a.jpg`` for ``a.JPG``). Each folder
    is listed once, when it is first asked for.

    Args:
        folder: where names start from.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._listings: dict[str, dict[str, str]] = {}

    def find(self, name: str) -> str | None:
        """The path of an existing file or folder, relative to the folder; None if there is none.

        Args:
            name: path with slashes; one that leads out of the folder is not found.
        """
        found = ""
        for part in PurePosixPath(os.path.normpath(name)).parts:
            listing = self.names(found)
            actual = listing.get(part) or listing.get(common_form(part))
            if actual is None:
                return None
            found = f"{found}/{actual}" if found else actual
        return found or None

    def path(self, name: str) -> Path:
        """The path of a name, as it is on the disk; as given where there is no such file."""
        return self.folder / (self.find(name) or name)

    def names(self, below: str = "") -> dict[str, str]:
        """Names of a folder below this one: by themselves, and by their common form."""
        if below not in self._listings:
            try:
                with os.scandir(self.folder / below) as entries:
                    names = [e.name for e in entries if not e.is_symlink() or Path(e).exists()]
            except (OSError, ValueError):  # no folder; or a name that no file can have
                names = []
            common = {common_form(name): name for name in names}
            self._listings[below] = common | {name: name for name in names}
        return self._listings[below]


def is_file(path: Path) -> bool:
    """Whether there is such a file; none has a name that no file can have."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def common_form(name: str) -> str:
    """Composed letters, and a lower-case ending; the same object where nothing changes.

    Example:
        >>> common_form("A.b/Cafe\u0301.JPG") == "A.b/Caf\u00e9.jpg"
        True
    """
    composed = unicodedata.normalize("NFC", name)
    stem, dot, ending = composed.rpartition(".")
    return composed if ending.islower() or not dot else f"{stem}.{ending.lower()}"
