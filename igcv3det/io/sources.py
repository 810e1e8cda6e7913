"""The images of files, folders, patterns, videos, cameras and URLs, one after the other.

A source that cannot be read becomes an `UnreadableSource` in its place, so that one bad file does
not end a run.
"""

from __future__ import annotations

import glob
import re
from collections import Counter
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import NamedTuple

import cv2

from igcv3det.io.addresses import Address, parse_address
from igcv3det.io.folders import files_in
from igcv3det.io.frames import Frame, UnreadableSource
from igcv3det.io.images import EXTENSIONS, ImageReadError, read_image
from igcv3det.io.videos import VIDEO_EXTENSIONS, read_video
from igcv3det.io.web import read_address

MAX_KINDS = 8  # of files left out that a notice counts


class Sources(NamedTuple):
    """The files of a run, found before the first of them is read.

    Attributes:
        files: images, videos, cameras and URLs in their order, and sources that stand for none.
        notices: a sentence for each folder that holds other files too.
    """

    files: list[Path | Address | UnreadableSource]
    notices: list[str]

    @property
    def paths(self) -> list[Path]:
        """The files, and the names of those that are missing."""
        named = [file.file if isinstance(file, UnreadableSource) else file for file in self.files]
        return [file for file in named if isinstance(file, Path)]


def find_sources(sources: Iterable[str | Path], *, numbered: bool = False) -> Sources:
    """The files that sources stand for.

    Args:
        sources: images, videos, folders (their images and videos by name, without hidden ones and
            those of inner folders), patterns (``"photos/**/*.jpg"``), indices of cameras (``"0"``)
            or URLs of images, videos and streams. A file or folder of the exact name takes
            precedence over a pattern and a camera.
        numbered: put the files of a folder or pattern in the order of the numbers in their names, 2
            before 10, as frames are numbered; else in the order of the names.
    """
    order = _by_numbers if numbered else None
    found = Sources([], [])
    for source in sources:
        path = Path(source)
        if not str(source):  # which would be the working directory
            found.files.append(UnreadableSource(path, "an empty name is no source"))
            continue
        try:
            address = None if path.exists() else parse_address(str(source))
            if address is not None:
                found.files.append(address)
                continue
            if path.is_dir():
                files, notices = _in_folder(path)
                files.sort(key=order)
                found.notices.extend(notices)
                reason = "the folder holds no image or video"
            elif glob.has_magic(str(source)) and not path.exists():
                files = sorted(_matching(path), key=order)
                reason = "no such file, and no file matches it as a pattern"
            else:
                files = [path]
            found.files.extend(files or [UnreadableSource(path, f"{source}: {reason}")])
        except (OSError, ValueError) as error:
            reason = f"{source}: cannot be read: {getattr(error, 'strerror', None) or error}"
            found.files.append(UnreadableSource(path, reason))
    return found


def read_sources(
    files: Iterable[Path | Address | UnreadableSource],
) -> Generator[Frame | UnreadableSource]:
    """Every image of the files that `find_sources` found, read when its turn comes."""
    for file in files:
        if isinstance(file, UnreadableSource):
            yield file
            continue
        try:
            if isinstance(file, Address):
                yield from read_address(file)
            elif is_video(file):
                yield from read_video(file)
            else:
                yield Frame(file, read_image(file))
        except ImageReadError as error:
            yield UnreadableSource(file, str(error))
        except (OSError, MemoryError, cv2.error) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            yield UnreadableSource(file, f"{file}: cannot be read: {reason}")


def is_video(path: Path) -> bool:
    """Whether the name ends like a video's."""
    return path.suffix.lower() in VIDEO_EXTENSIONS


def _by_numbers(path: Path) -> tuple[str, list[str | int], str]:
    """Sorts names of one folder by the numbers in them."""
    parts = re.split(r"([0-9]+)", path.name)  # numbers at odd places
    key = [int(part) if place % 2 else part for place, part in enumerate(parts)]
    return str(path.parent), key, path.name


def _in_folder(folder: Path) -> tuple[list[Path], list[str]]:
    """Images and videos by name, and a notice if there are other files."""
    files = files_in(folder)
    taken = [path for path in files if path.suffix.lower() in EXTENSIONS | VIDEO_EXTENSIONS]
    others = Counter(
        path.suffix.lower() or "without an ending" for path in set(files).difference(taken)
    )
    if not others:
        return taken, []
    kinds = ", ".join(f"{count} {kind}" for kind, count in others.most_common(MAX_KINDS))
    if len(others) > MAX_KINDS:
        kinds += ", ..."
    return taken, [f"{folder}: left out, by name neither images nor videos: {kinds}"]


def _matching(pattern: Path) -> list[Path]:
    """Files that match, by name. Leading folders that exist are taken by their exact names."""
    base, parts = Path(pattern.anchor), list(pattern.parts[bool(pattern.anchor) :])
    while parts and (base / parts[0]).is_dir():
        base /= parts.pop(0)
    # Path.glob takes no absolute pattern
    names = glob.glob(str(Path(*parts)), root_dir=base, recursive=True)  # noqa: PTH207
    return sorted(base / name for name in names if not (base / name).is_dir())
