"""Writing videos by PyAV: each frame has its own time, and the sound of the source is kept."""

from __future__ import annotations

import importlib
import importlib.util
import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from igcv3det.io.images import Image
from igcv3det.io.videos import MAX_FPS, MIN_FPS, VideoWriter, ffmpeg_name, fitted

logger = logging.getLogger(__name__)

TICKS = 90_000  # a second, as MPEG counts
_X264 = {"crf": "20", "preset": "veryfast"}
_MPEG4_BITS = 0.2  # a pixel, where x264 is missing
# Other codecs than these are not safe in MP4 files; they become AAC
_COPIED_SOUND = frozenset({"aac", "mp3", "ac3", "eac3"})
_AAC_RATES = frozenset({16_000, 22_050, 24_000, 32_000, 44_100, 48_000})


def has_pyav() -> bool:
    """Whether PyAV is installed."""
    return importlib.util.find_spec("av") is not None


def open_video(path: Path, fps: float, source: Path | None = None) -> VideoWriter | AvVideoWriter:
    """A writer of an MP4 file, by PyAV if it is installed, else by OpenCV.

    Args:
        path: ends in ``.mp4``; its folder must exist.
        fps: nominal frames per second.
        source: video whose sound is kept; OpenCV keeps none.
    """
    return AvVideoWriter(path, fps, source) if has_pyav() else VideoWriter(path, fps)


class AvVideoWriter:
    """Writes frames with their own times to an MP4 file (H.264), with the sound of another video.

    The first frame fixes the size (an odd side loses one pixel); frames of another size are scaled
    into it with black borders. The sound ends with the last frame.

    Args:
        path: ends in ``.mp4``; its folder must exist.
        fps: nominal frames per second, for frames without a time.
        source: video with the sound; None or one without sound gives a silent file.

    Raises:
        ImportError: PyAV is not installed.
    """

    def __init__(self, path: Path, fps: float, source: Path | None = None) -> None:
        self._av: Any = importlib.import_module("av")
        self.path = path
        self.fps = min(max(fps, MIN_FPS), MAX_FPS)
        self._source = source
        self._stack = ExitStack()
        self._size = (0, 0)  # width, height
        self._output: Any = None
        self._video: Any = None
        self._sound: _Sound | None = None
        self._ticks = -1  # of the last frame

    def write(self, image: Image, time: float | None = None) -> None:
        """Appends a frame.

        Args:
            image: [H, W, 3] uint8 RGB.
            time: when it is shown, in seconds; None shows it one frame after the frame before.

        Raises:
            OSError: the file cannot be written.
        """
        step = 1 if self._ticks < 0 else max(1, round(TICKS / self.fps))
        ticks = self._ticks + step if time is None else round(time * TICKS)
        with self._named():
            if self._output is None:
                self._open(image)
            self._ticks = max(ticks, self._ticks + 1)
            width, height = self._size
            pixels = fitted(image, self._size)[: height // 2 * 2, : width // 2 * 2]
            frame = self._av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = self._ticks, Fraction(1, TICKS)
            if self._sound:
                self._sound.copy_until(self._ticks / TICKS)
            self._output.mux(self._video.encode(frame))

    def _open(self, image: Image) -> None:
        height, width = image.shape[:2]
        if min(height, width) < 2:
            raise OSError("too small")
        name = self._stack.enter_context(ffmpeg_name(self.path))
        output = self._stack.enter_context(self._av.open(name, "w", format="mp4"))
        is_x264 = "libx264" in self._av.codecs_available
        rate = Fraction(self.fps).limit_denominator(1001)
        video = output.add_stream("libx264" if is_x264 else "mpeg4", rate=rate)
        video.width, video.height, video.pix_fmt = width // 2 * 2, height // 2 * 2, "yuv420p"
        video.codec_context.time_base = Fraction(1, TICKS)
        if is_x264:
            video.options = _X264
        else:
            video.bit_rate = round(_MPEG4_BITS * width * height * self.fps)
        self._size, self._video, self._output = (width, height), video, output
        if self._source is not None:
            self._sound = self._stack.enter_context(_open_sound(self._av, self._source, output))

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError, self._av.FFmpegError) as error:
            raise OSError(f"{self.path}: cannot write this video") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._stack:
            if self._ticks >= 0:
                with self._named():
                    if self._sound:
                        self._sound.copy_until(self._ticks / TICKS + 1 / self.fps)
                        self._sound.finish()
                    self._output.mux(self._video.encode(None))


class _Sound:
    """The first sound track of a video, copied into another file, or encoded as AAC for it."""

    def __init__(self, av: Any, source: Any, output: Any) -> None:  # noqa: ANN401 (untyped package)
        self._av, self._output = av, output
        track = source.streams.audio[0]
        videos = source.streams.video
        start = videos[0].start_time * videos[0].time_base if videos and videos[0].start_time else 0
        self._start = Fraction(start)  # seconds, of the first frame
        self._is_copied = track.codec_context.codec.canonical_name in _COPIED_SOUND
        if self._is_copied:
            self._track = output.add_stream_from_template(track)
        else:
            rate = track.rate if track.rate in _AAC_RATES else 48_000
            layout = "mono" if track.channels == 1 else "stereo"
            self._track = output.add_stream("aac", rate=rate, layout=layout)
        self._parts: Iterator[Any] = (
            source.demux(track) if self._is_copied else source.decode(track)
        )
        self._next: Any = None
        self._is_ended = False

    def copy_until(self, time: float) -> None:
        """Writes what is heard before a time, in seconds."""
        while not self._is_ended:
            try:
                part = self._next or next(self._parts, None)
            except self._av.FFmpegError as error:
                logger.warning("%s: the sound is damaged and ends early", error.filename or "video")
                part = None
            self._next = None
            if part is None:
                self._is_ended = True
            elif part.pts is not None:  # the last packet is empty
                at = part.pts * part.time_base - self._start
                if at >= time:
                    self._next = part
                    return
                if at >= 0:
                    self._write(part)

    def _write(self, part: Any) -> None:  # noqa: ANN401
        shift = round(self._start / part.time_base)
        part.pts -= shift
        if self._is_copied:
            part.dts = part.pts if part.dts is None else part.dts - shift
            part.stream = self._track
            self._output.mux(part)
        else:
            self._output.mux(self._track.encode(part))

    def finish(self) -> None:
        """Writes what the encoder still holds."""
        if not self._is_copied:
            self._output.mux(self._track.encode(None))


@contextmanager
def _open_sound(av: Any, source: Path, output: Any) -> Iterator[_Sound | None]:  # noqa: ANN401
    """None if the source has no sound, or none that can be read."""
    with ExitStack() as stack:
        sound = None
        try:
            video = stack.enter_context(av.open(stack.enter_context(ffmpeg_name(source))))
            if video.streams.audio:
                sound = _Sound(av, video, output)
        except (OSError, ValueError, av.FFmpegError):
            logger.warning("%s: the sound cannot be read", source)
        yield sound
