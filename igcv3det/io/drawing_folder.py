"""A folder of drawn images and videos, named after their sources."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from igcv3det.io.addresses import Address
from igcv3det.io.av_videos import AvVideoWriter, open_video
from igcv3det.io.file_set import NewFiles
from igcv3det.io.frames import Frame
from igcv3det.io.images import WRITE_EXTENSIONS, Image, write_image
from igcv3det.io.videos import VideoWriter

KEPT_SUFFIXES = WRITE_EXTENSIONS - {".gif"}  # a GIF has 256 colours


class DrawingFolder:
    """Writes an image file for each image and an MP4 file for each video, see `open_video`.

    A file is named after its source, with a number added where that name is taken: by a drawing of
    this run or by a protected file. Other files of that name are replaced.

    Args:
        folder: made if it does not exist.
        protected: files that are never written over, such as all sources of the run.

    Raises:
        OSError: the folder cannot be made.
    """

    def __init__(self, folder: Path, protected: Iterable[Path] = ()) -> None:
        self._new = NewFiles(folder, protected)
        self._open = ExitStack()
        self._video: tuple[Path | Address, VideoWriter | AvVideoWriter] | None = None

    def write(self, frame: Frame, drawn: Image) -> Path:
        """Writes a drawn frame; the frames of a video come one after the other.

        Returns:
            The image or video file.

        Raises:
            OSError: the file cannot be written.
        """
        if frame.fps is None:
            suffix = frame.file.suffix if frame.file.suffix.lower() in KEPT_SUFFIXES else ".png"
            path = self._new.name(frame.file.stem, suffix)
            write_image(path, drawn)
            return path
        if self._video is None or self._video[0] != frame.file or frame.index == 0:
            self._open.close()
            path = self._new.name(frame.file.stem, ".mp4")
            source = frame.file if isinstance(frame.file, Path) else None
            writer = open_video(path, frame.fps, source)
            self._open.enter_context(writer)
            self._video = (frame.file, writer)
        writer = self._video[1]
        writer.write(drawn, frame.time)
        return writer.path

    def close(self) -> None:
        """Completes the last video.

        Raises:
            OSError: it cannot be written.
        """
        self._open.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
