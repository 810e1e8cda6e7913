"""Frames of cameras and network streams, which have no end and cannot wait.

A thread reads the stream, and each frame is the newest at the time when it is asked for: a slow
detector drops frames and does not lag behind. A stream that drops is connected again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator

import cv2
import numpy as np

from igcv3det.io.addresses import Address
from igcv3det.io.frames import Frame
from igcv3det.io.images import Image, ImageReadError
from igcv3det.io.videos import TIME_DIGITS, nominal_fps

logger = logging.getLogger(__name__)

RECONNECT_DELAYS = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Seconds before each attempt to connect again; a frame that arrives sets the count back."""
TIMEOUT_MS = 10_000  # to open a stream, and to wait for its next frame
_WAKE_S = 0.5  # so that an interrupt is noticed where waiting cannot be interrupted


def open_capture(address: Address) -> cv2.VideoCapture | None:
    """Opens a camera or a URL by OpenCV; None if that cannot be done."""
    if address.camera is not None:
        capture = cv2.VideoCapture(address.camera)
    else:
        limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, TIMEOUT_MS]
        limits += [cv2.CAP_PROP_READ_TIMEOUT_MSEC, TIMEOUT_MS]
        capture = cv2.VideoCapture(address.text, cv2.CAP_FFMPEG, limits)
    return capture if capture.isOpened() else None


def read_stream(
    address: Address,
    capture: cv2.VideoCapture | None,
    *,
    reopen: Callable[[Address], cv2.VideoCapture | None] = open_capture,
    delays: tuple[float, ...] = RECONNECT_DELAYS,
) -> Iterator[Frame]:
    """The frames of a stream until it ends for good; closing the iterator closes the stream.

    The index of a frame counts all frames that arrived, also those that were dropped because
    newer ones had arrived; its time is that of its arrival.

    Args:
        address: of the stream.
        capture: the open stream; None if it could not be opened.
        reopen: opens it again.
        delays: seconds before each attempt to do so.

    Raises:
        ImageReadError: the stream cannot be opened, or ended and could not be opened again.
    """
    if capture is None:
        raise ImageReadError(f"{address}: cannot be opened")
    count, start, failures = 0, 0.0, 0
    while True:
        fps = nominal_fps(capture)
        with _NewestFrame(capture) as newest:
            first = count
            for index, arrival, bgr in newest:
                start = start or arrival
                image = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)
                count = first + index + 1
                yield Frame(address, image, count - 1, round(arrival - start, TIME_DIGITS), fps)
        if count > first:
            failures = 0
        capture = None
        while capture is None:
            if failures == len(delays):
                raise ImageReadError(
                    f"{address}: the stream ended after {count} frames, and {failures} attempts "
                    "to connect again failed"
                )
            failures += 1
            logger.warning(
                "%s: no frame after %d; connecting again (%d of %d)",
                *(address, count, failures, len(delays)),
            )
            time.sleep(delays[failures - 1])
            capture = reopen(address)


class _NewestFrame:
    """Iterates over a capture's frames: index, time of arrival in seconds, BGR pixels."""

    def __init__(self, capture: cv2.VideoCapture) -> None:
        self._capture = capture
        self._changed = threading.Condition()
        self._frame: tuple[int, float, Image] | None = None
        self._is_ended = False
        self._is_closed = False
        self._thread = threading.Thread(target=self._read, daemon=True)

    def _read(self) -> None:
        index = 0
        try:
            while not self._is_closed:
                is_read, bgr = self._capture.read()
                if not is_read:
                    break
                with self._changed:
                    self._frame = index, time.monotonic(), bgr.astype(np.uint8, copy=False)
                    self._changed.notify()
                index += 1
        finally:
            self._capture.release()
            with self._changed:
                self._is_ended = True
                self._changed.notify()

    def __iter__(self) -> Iterator[tuple[int, float, Image]]:
        while True:
            with self._changed:
                while self._frame is None and not self._is_ended:
                    self._changed.wait(_WAKE_S)
                frame, self._frame = self._frame, None
            if frame is None:
                return
            yield frame

    def __enter__(self) -> _NewestFrame:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._is_closed = True
        # A stream that hangs is left to its thread, which ends with the process
        self._thread.join(timeout=2.0)
