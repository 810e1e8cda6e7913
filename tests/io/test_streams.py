"""Cameras and streams, with a fake capture: newest frames, reconnecting, closing."""

import logging
import threading

import cv2
import numpy as np
import pytest

from igcv3det.io.addresses import Address, parse_address
from igcv3det.io.images import ImageReadError
from igcv3det.io.streams import open_capture, read_stream

STREAM = Address("rtsp://host/yard")


class FakeCapture:
    """Gives grey frames of rising levels; waits before each until it is allowed."""

    def __init__(self, levels, *, free=False):
        self.levels = list(levels)
        self.allowed = threading.Semaphore(len(self.levels) + 1 if free else 1)
        self.released = False

    def read(self):
        self.allowed.acquire(timeout=5)
        if not self.levels:
            return False, None
        return True, np.full((4, 6, 3), self.levels.pop(0), np.uint8)

    def get(self, prop):
        return 10.0 if prop == cv2.CAP_PROP_FPS else 0.0

    def release(self):
        self.released = True


def read_one_by_one(capture, stream):
    for frame in stream:
        yield frame
        capture.allowed.release()


def test_frames_are_those_of_the_capture():
    capture = FakeCapture([10, 20, 30])
    frames = read_one_by_one(capture, read_stream(STREAM, capture, delays=()))
    got = [next(frames) for _ in range(3)]
    assert [frame.image.mean() for frame in got] == [10, 20, 30]
    assert [frame.index for frame in got] == [0, 1, 2]
    assert got[0].time == 0 <= got[1].time <= got[2].time
    assert {frame.fps for frame in got} == {10.0}
    assert {frame.total for frame in got} == {None}
    with pytest.raises(ImageReadError, match=r"^rtsp://host/yard: the stream ended after 3 frames"):
        next(frames)
    assert capture.released


def test_a_slow_reader_gets_the_newest_frame():
    capture = FakeCapture([10, 20, 30, 40], free=True)
    stream = read_stream(STREAM, capture, delays=())
    first = next(stream)
    for _ in range(500):
        if capture.released:
            break
        threading.Event().wait(0.01)
    assert capture.released
    last = first if first.image.mean() == 40 else next(stream)
    assert (last.index, last.image.mean()) == (3, 40)


def test_closing_the_iterator_closes_the_stream():
    capture = FakeCapture([10] * 3)
    stream = read_stream(STREAM, capture)
    next(stream)
    capture.allowed.release(2)
    stream.close()
    assert capture.released


def test_a_stream_that_drops_is_connected_again(caplog):
    later = [None, FakeCapture([]), FakeCapture([50], free=True), None, None, None]
    capture = FakeCapture([10], free=True)
    stream = read_stream(STREAM, capture, reopen=lambda address: later.pop(0), delays=(0, 0, 0))
    with caplog.at_level(logging.WARNING):
        frames = [next(stream), next(stream)]
        with pytest.raises(ImageReadError, match="ended after 2 frames, and 3 attempts"):
            next(stream)
    assert [(frame.index, frame.image.mean()) for frame in frames] == [(0, 10), (1, 50)]
    assert later == []
    assert [line.partition("; ")[2] for line in caplog.messages] == [
        *("connecting again (1 of 3)", "connecting again (2 of 3)", "connecting again (3 of 3)"),
        *("connecting again (1 of 3)", "connecting again (2 of 3)", "connecting again (3 of 3)"),
    ]


def test_a_stream_that_cannot_be_opened():
    with pytest.raises(ImageReadError, match=r"^rtsp://host/yard: cannot be opened$"):
        next(read_stream(STREAM, open_capture(Address("rtsp://127.0.0.1:1/yard"))))


@pytest.mark.parametrize(
    ("source", "shown", "stem"),
    [
        ("0", "camera 0", "camera_0"),
        ("rtsp://me:secret@host:554/live/yard.sdp", "rtsp://host:554/live/yard.sdp", "yard"),
        ("HTTP://host/a%20b.jpg?x=1", "http://host/a%20b.jpg?x=1", "a_b"),
        ("http://host", "http://host", "host"),
    ],
)
def test_addresses(source, shown, stem):
    address = parse_address(source)
    assert (str(address), address.stem) == (shown, stem)


@pytest.mark.parametrize(
    "source", ["a.jpg", "2026", "-1", "C:\\a.jpg", "ftp://host/a.jpg", "", "٣"]
)
def test_files_are_no_addresses(source):
    assert parse_address(source) is None


def test_a_malformed_url():
    with pytest.raises(ValueError, match="Invalid IPv6"):
        parse_address("http://[::1/a.jpg")
