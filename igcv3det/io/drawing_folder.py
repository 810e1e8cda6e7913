"""A folder of drawn images and videos, named after their sources."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from igcv3det.io.images import Image, write_image
from igcv3det.io.sources import Frame, VideoWriter

KEPT_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})


class DrawingFolder:
    """Writes an image for each still and one MP4 for each video.

    No source is ever written over, and two sources of one name get two images.

    Args:
        folder: made if it is not there.

    Raises:
        OSError: the folder cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._used: set[Path] = set()
        self._open = ExitStack()
        self._video: tuple[Path, VideoWriter] | None = None

    def write(self, frame: Frame, drawn: Image) -> Path:
        """Writes a drawn frame; frames of one video come one after the other.

        Returns:
            The image or video it went to.

        Raises:
            OSError: the file cannot be written.
        """
        if frame.fps is None:
            suffix = frame.file.suffix if frame.file.suffix.lower() in KEPT_SUFFIXES else ".png"
            path = self._free_name(frame.file, suffix)
            write_image(path, drawn)
            return path
        if self._video is None or self._video[0] != frame.file or frame.index == 0:
            self._open.close()
            path = self._free_name(frame.file, ".mp4")
            writer = self._open.enter_context(VideoWriter(path, frame.fps))
            self._video = (frame.file, writer)
        writer = self._video[1]
        writer.write(drawn)
        return writer.path

    def _free_name(self, source: Path, suffix: str) -> Path:
        path, number = self.folder / f"{source.stem}{suffix}", 1
        while path in self._used or (path.exists() and path.samefile(source)):
            number += 1
            path = self.folder / f"{source.stem}_{number}{suffix}"
        self._used.add(path)
        return path

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open.close()
