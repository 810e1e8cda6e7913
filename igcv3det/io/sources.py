"""Images to look for objects in: files, folders, patterns and videos, one frame after the other.

What cannot be read becomes an `UnreadableSource` in its place, so that one bad file does not end a
run.
"""

from __future__ import annotations

import glob
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import cv2
import numpy as np

from igcv3det.io.images import EXTENSIONS, Image, ImageReadError, read_image

VIDEO_EXTENSIONS = frozenset(
    {".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv"}
)
# Containers' frame counts are estimates for some codecs; fewer than this share means a broken end.
COMPLETE_SHARE = 0.9
DEFAULT_FPS = 25.0  # where a container does not say


@dataclass(frozen=True)
class Frame:
    """One image.

    Attributes:
        file: where it comes from.
        image: [H, W, 3] uint8 RGB, turned as its file says.
        index: number of the frame in its video, from 0; None for a still image.
        time: seconds from the start of the video; None for a still image.
        fps: frames a second of the video; None for a still image.
    """

    file: Path
    image: Image
    index: int | None = None
    time: float | None = None
    fps: float | None = None


@dataclass(frozen=True)
class UnreadableSource:
    """A source that gave no image, or not all of them.

    Attributes:
        file: the source.
        reason: one sentence that names it.
    """

    file: Path
    reason: str


def is_video(path: Path) -> bool:
    """Whether the name ends like a video's."""
    return path.suffix.lower() in VIDEO_EXTENSIONS


def read_sources(sources: Iterable[str | Path]) -> Iterator[Frame | UnreadableSource]:
    """Every image of the sources, read when its turn comes.

    Args:
        sources: images, videos, folders (their images and videos by name, not those of inner
            folders) or patterns (``"photos/**/*.jpg"``).
    """
    for source in sources:
        for item in expand_source(source):
            if isinstance(item, UnreadableSource):
                yield item
            elif is_video(item):
                yield from read_video(item)
            else:
                yield _read_still(item)


def expand_source(source: str | Path) -> list[Path | UnreadableSource]:
    """The files that a source stands for, sorted by name.

    A file that exists is taken as it is, whatever its name.
    """
    path = Path(source)
    if path.is_dir():
        known = EXTENSIONS | VIDEO_EXTENSIONS
        files = sorted(p for p in path.iterdir() if p.suffix.lower() in known and p.is_file())
        kind = "folder without images or videos"
    elif glob.has_magic(str(source)) and not path.exists():
        # Path.glob takes no absolute pattern
        names = glob.glob(str(source), recursive=True)  # noqa: PTH207
        files = sorted(path for path in map(Path, names) if path.is_file())
        kind = "no file matches this pattern"
    else:
        return [path]
    return list(files) or [UnreadableSource(path, f"{source}: {kind}")]


def read_video(path: Path) -> Iterator[Frame | UnreadableSource]:
    """The frames of a video; an `UnreadableSource` at the end if it is cut off or no video."""
    if not path.is_file():
        yield UnreadableSource(path, f"{path}: no such file")
        return
    capture = cv2.VideoCapture(str(path))
    try:
        fps = capture.get(cv2.CAP_PROP_FPS)
        fps = fps if np.isfinite(fps) and fps > 0 else DEFAULT_FPS
        promised = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        index = 0
        while True:
            is_read, bgr = capture.read()
            if not is_read:
                break
            image = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)
            yield Frame(path, image, index, index / fps, fps)
            index += 1
    finally:
        capture.release()
    if index == 0:
        yield UnreadableSource(path, f"{path}: not a video that can be read")
    elif index < COMPLETE_SHARE * promised:
        reason = f"{path}: the video breaks off after {index} of {promised:.0f} frames"
        yield UnreadableSource(path, reason)


class VideoWriter:
    """Writes frames to an MP4 file; the first one fixes the size (an odd side loses one pixel).

    Args:
        path: ends in ``.mp4``; its folder must exist.
        fps: frames a second.
    """

    def __init__(self, path: Path, fps: float) -> None:
        self.path = path
        self.fps = fps
        self._writer: cv2.VideoWriter | None = None

    def write(self, image: Image) -> None:
        """Appends [H, W, 3] uint8 RGB.

        Raises:
            OSError: the file cannot be written.
        """
        height, width = image.shape[:2]
        if self._writer is None:
            codec = cv2.VideoWriter.fourcc(*"mp4v")
            self._writer = cv2.VideoWriter(str(self.path), codec, self.fps, (width, height))
        if not self._writer.isOpened():
            raise OSError(f"{self.path}: cannot write this video")
        self._writer.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._writer is not None:
            self._writer.release()


def _read_still(path: Path) -> Frame | UnreadableSource:
    try:
        return Frame(path, read_image(path))
    except ImageReadError as error:
        return UnreadableSource(path, str(error))
