"""Reading and writing video files by OpenCV."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import cv2
import numpy as np

from igcv3det.io.addresses import Address
from igcv3det.io.frames import Frame
from igcv3det.io.images import Image, ImageReadError

VIDEO_EXTENSIONS = frozenset(
    {
        *(".3g2", ".3gp", ".asf", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4"),
        *(".mpeg", ".mpg", ".mts", ".mxf", ".ogv", ".ts", ".vob", ".webm", ".wmv"),
    }
)
"""Name endings, in lower case, by which a video is recognised."""

DEFAULT_FPS = 25.0  # for a container that does not state its frame rate
# Durations and frame counts are estimates in some containers: only less than this share is an error
COMPLETE_SHARE = 0.9
TIME_DIGITS = 6  # of a second
# MPEG-4 counts at most 65535 ticks a second, and OpenCV writes a rate as ticks / 10^n
MAX_TICKS, MAX_DECIMALS = 65535, 3
MIN_FPS, MAX_FPS = 0.01, 240.0
MAX_PAUSE = 10.0  # seconds


def read_video(path: Path) -> Iterator[Frame]:
    """The frames of a video file, in order, rotated as the container says.

    Times are the container's timestamps.

    Raises:
        ImageReadError: there is no such file, it is no video, or (after its last frame) it ends
            before the duration that it states.
    """
    if not path.is_file():
        raise ImageReadError(f"{path}: no such file")
    with ffmpeg_name(path) as name:
        capture = cv2.VideoCapture(name)
        try:
            yield from read_capture(capture, path)
        finally:
            capture.release()


def nominal_fps(capture: cv2.VideoCapture) -> float:
    """Frames per second that a video states, or 25."""
    fps = capture.get(cv2.CAP_PROP_FPS)
    return fps if np.isfinite(fps) and fps > 0 else DEFAULT_FPS


def is_finite(capture: cv2.VideoCapture) -> bool:
    """Whether a video states its length; streams state 0 or less."""
    count = capture.get(cv2.CAP_PROP_FRAME_COUNT)
    return bool(np.isfinite(count) and count > 0)


def read_capture(capture: cv2.VideoCapture, path: Path | Address) -> Iterator[Frame]:
    """The frames of an open video; see `read_video`."""
    fps = nominal_fps(capture)
    stated_frames = capture.get(cv2.CAP_PROP_FRAME_COUNT)
    total = int(stated_frames) if is_finite(capture) else None
    frames, time, start = 0, 0.0, 0.0
    while True:
        is_read, bgr = capture.read()
        if not is_read:
            break
        stamp = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        if frames == 0:
            start = stamp if np.isfinite(stamp) else 0.0
        else:  # timestamps that do not rise are missing ones
            time = stamp - start if stamp - start > time else time + 1 / fps
        image = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)
        yield Frame(path, image, frames, round(time, TIME_DIGITS), fps, total)
        frames += 1
    if frames == 0:
        raise ImageReadError(f"{path}: not a video that can be read")
    end, stated_end = time + 1 / fps, stated_frames / fps
    # The count alone misjudges a variable frame rate, the time alone a last frame shown long
    if frames < COMPLETE_SHARE * stated_frames and end < COMPLETE_SHARE * stated_end:
        raise ImageReadError(
            f"{path}: the video breaks off after {end:.1f} of {stated_end:.1f} s ({frames} frames)"
        )


class VideoWriter:
    """Writes frames to an MP4 file of a constant frame rate.

    The first frame fixes the size (an odd side loses one pixel); frames of another size are scaled
    into it with black borders.

    Args:
        path: ends in ``.mp4``; its folder must exist.
        fps: frames per second, limited to 0.01..240 and rounded to a rate that MPEG-4 can store.

    Attributes:
        fps: frames per second of the file.

    Raises:
        OSError: when the context ends, the file is not whole.
    """

    def __init__(self, path: Path, fps: float) -> None:
        self.path = path
        self.fps = _storable_rate(fps)
        self._stack = ExitStack()
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)  # width, height
        self._last: Image | None = None
        self._frames, self._skipped = 0, 0.0

    def write(self, image: Image, time: float | None = None) -> None:
        """Appends a frame.

        Args:
            image: [H, W, 3] uint8 RGB.
            time: when it is shown, in seconds; the frame before is repeated until then, for at most
                10 s. None shows it straight after the frame before.

        Raises:
            OSError: the file cannot be written.
        """
        if self._writer is None:
            self._writer = self._open(image)
        if not self._writer.isOpened():
            raise OSError(f"{self.path}: cannot write this video")
        if time is not None and self._last is not None:
            due = round((time - self._skipped) * self.fps)
            latest = self._frames + round(MAX_PAUSE * self.fps)
            if due > latest:
                self._skipped += (due - latest) / self.fps
            for _ in range(self._frames, min(due, latest)):
                self._append(self._last)
        bgr = cv2.cvtColor(fitted(image, self._size), cv2.COLOR_RGB2BGR)
        self._last = bgr.astype(np.uint8, copy=False)
        self._append(self._last)

    def _open(self, image: Image) -> cv2.VideoWriter:
        height, width = image.shape[:2]
        self._size = (width, height)
        name = self._stack.enter_context(ffmpeg_name(self.path))
        codec = cv2.VideoWriter.fourcc(*"mp4v")
        return cv2.VideoWriter(name, codec, self.fps, self._size)

    def _require_whole(self) -> None:
        """OpenCV reports no failure; a file whose end is missing cannot be opened."""
        with ffmpeg_name(self.path) as name:
            capture = cv2.VideoCapture(name)
            is_whole = capture.isOpened()
            capture.release()
        if not is_whole:
            raise OSError(f"{self.path}: cannot write this video; is the disk full?")

    def _append(self, bgr: Image) -> None:
        assert self._writer is not None
        self._writer.write(bgr)
        self._frames += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._stack:
            if self._writer is not None and self._writer.isOpened():
                self._writer.release()
                self._require_whole()


@contextmanager
def ffmpeg_name(path: Path) -> Iterator[str]:
    """A name by which OpenCV and PyAV can open a file.

    It is absolute, since FFmpeg takes "a:b.mp4" for a protocol. OpenCV crashes on a name that is
    not UTF-8, so for that it is a link in a temporary folder.
    """
    absolute = path.absolute()
    try:
        str(absolute).encode()
    except UnicodeEncodeError:
        with tempfile.TemporaryDirectory() as folder:
            link = Path(folder) / f"video{path.suffix.encode('ascii', 'ignore').decode()}"
            link.symlink_to(absolute)
            yield str(link)
    else:
        yield str(absolute)


def _storable_rate(fps: float) -> float:
    """The nearest rate of at most 65535 ticks a second.

    Example:
        >>> _storable_rate(239.763), _storable_rate(29.97)
        (239.76, 29.97)
    """
    fps = min(max(fps, MIN_FPS), MAX_FPS)
    decimals = next(n for n in range(MAX_DECIMALS, -1, -1) if fps * 10**n <= MAX_TICKS)
    return round(fps, decimals)


def fitted(image: Image, size: tuple[int, int]) -> Image:
    """The image scaled into (width, height), with black borders where the aspects differ."""
    height, width = image.shape[:2]
    if (width, height) == size:
        return image
    scale = min(size[0] / width, size[1] / height)
    inner = max(round(width * scale), 1), max(round(height * scale), 1)
    left, top = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
    fitted = np.zeros((size[1], size[0], 3), dtype=np.uint8)
    fitted[top : top + inner[1], left : left + inner[0]] = cv2.resize(image, inner)
    return fitted
