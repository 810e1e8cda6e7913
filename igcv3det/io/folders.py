"""The files of one folder, without those of its inner folders."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path, PurePath

from igcv3det.io.images import EXTENSIONS


def files_in(
    folder: str | Path, suffixes: Collection[str] | None = None, *, takes_hidden: bool = False
) -> list[Path]:
    """Files by name, and links that lead nowhere: reading one says what is wrong.

    Pipes, sockets and devices, whose reading may never end, are left out.

    Args:
        folder: to list.
        suffixes: in lower case, with dots; only files with one of these, in any letter case.
        takes_hidden: also those that begin with a dot; macOS keeps what belongs to ``a.jpg`` in
            ``._a.jpg``.

    Raises:
        OSError: the folder cannot be read.
    """
    with os.scandir(folder) as entries:
        names = [
            entry.name
            for entry in entries
            if (takes_hidden or not entry.name.startswith("."))
            and (suffixes is None or PurePath(entry.name).suffix.lower() in suffixes)
            and _is_taken(entry)
        ]
    return [Path(folder) / name for name in sorted(names)]


def _is_taken(entry: os.DirEntry[str]) -> bool:
    if not entry.is_symlink():
        return entry.is_file()
    path = Path(entry)  # whose methods answer for a link to itself too
    return path.is_file() or not path.exists()


def images_in(folder: str | Path) -> list[Path]:
    """Files whose names end like an image's, by name, hidden ones too.

    Who reads them names those that are no images.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"{folder}: no such folder of images")
    return files_in(folder, EXTENSIONS, takes_hidden=True)
