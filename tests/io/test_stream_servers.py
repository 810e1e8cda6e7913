"""Streams of a real server in a process of its own: MJPEG and MPEG-TS over HTTP, RTSP."""

import logging
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest

from igcv3det.io.addresses import Address
from igcv3det.io.frames import UnreadableSource
from igcv3det.io.images import ImageReadError, write_image
from igcv3det.io.sources import find_sources, read_sources
from igcv3det.io.streams import open_capture, read_stream

TESTS = Path(__file__).parents[1]
LEVELS = (60, 180)
HEIGHT, WIDTH, FPS = 48, 64, 25


def grey(level):
    return np.full((HEIGHT, WIDTH, 3), level, np.uint8)


def write_jpeg(path, level):
    write_image(path, grey(level))


def write_transport_stream(path, level):
    codec = cv2.VideoWriter.fourcc(*"MPEG")
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, codec, FPS, (WIDTH, HEIGHT))
    if not writer.isOpened():
        pytest.skip("this OpenCV cannot encode MPEG-2")
    for _ in range(FPS):
        writer.write(grey(level))
    writer.release()


@contextmanager
def served(*words, url):
    """A server's process; yields the URL with its port for {}."""
    command = [sys.executable, "-S", *map(str, words)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            yield Address(url.format(server.stdout.readline().strip()))
        finally:
            server.kill()


def rtsp(*files, path="live", login=""):
    return served(TESTS / "rtsp_server.py", *files, url=f"rtsp://{login}127.0.0.1:{{}}/{path}")


@pytest.fixture(scope="module")
def transport_streams(tmp_path_factory):
    files = [tmp_path_factory.mktemp("streams") / f"{level}.ts" for level in LEVELS]
    for file, level in zip(files, LEVELS, strict=True):
        write_transport_stream(file, level)
    return files


@pytest.mark.parametrize("kind", ["mjpeg", "mpegts", "rtsp", "rtsp with login"])
def test_a_server_that_drops_the_connection_and_ends(tmp_path, caplog, kind, request):
    if kind == "mjpeg":
        files = [tmp_path / f"{level}.jpg" for level in LEVELS]
        for file, level in zip(files, LEVELS, strict=True):
            write_jpeg(file, level)
    else:
        files = request.getfixturevalue("transport_streams")
    if kind == "rtsp":
        server = rtsp(*files)
    elif kind == "rtsp with login":
        server = rtsp(*files, path="locked", login="me:se%20cret@")
    else:
        content = {"mjpeg": "multipart/x-mixed-replace", "mpegts": "video/mp2t"}[kind]
        script = TESTS / "stream_server.py"
        server = served(script, content, *files, url="http://127.0.0.1:{}/video")
    frames = []
    with server as address, caplog.at_level(logging.WARNING):
        stream = read_stream(address, open_capture(address), delays=(0.01, 0.01))
        with pytest.raises(ImageReadError, match=r"ended after \d+ frames, and 2 attempts"):
            frames.extend(stream)
    assert {frame.image.shape for frame in frames} == {(HEIGHT, WIDTH, 3)}
    levels = [frame.image.mean() for frame in frames]
    nearest = [min(LEVELS, key=lambda own: abs(own - level)) for level in levels]
    assert nearest == sorted(nearest)
    assert set(nearest) == set(LEVELS)  # frames of both connections
    np.testing.assert_allclose(levels, nearest, atol=4)
    indices = [frame.index for frame in frames]
    assert indices == sorted(set(indices))
    assert [line.partition("; ")[2] for line in caplog.messages] == [
        *("connecting again (1 of 2)", "connecting again (1 of 2)", "connecting again (2 of 2)"),
    ]


def read(address):
    return list(read_sources(find_sources([address.text]).files))


def test_a_recorded_stream_is_a_video_that_ends(transport_streams):
    """Every frame is read, at its own time, and nothing is connected again."""
    with rtsp(*transport_streams, path="recorded") as address:
        frames = read(address)
    assert [frame.index for frame in frames] == list(range(len(frames)))
    assert FPS - 1 <= len(frames) <= FPS  # FFmpeg may lose one at the end of the connection
    times = [frame.time for frame in frames[:-1]]
    np.testing.assert_allclose(times, np.arange(len(times)) / FPS, atol=1e-6)


def test_a_recorded_stream_that_breaks_off(transport_streams, tmp_path):
    data = transport_streams[0].read_bytes()
    (tmp_path / "half.ts").write_bytes(data[: len(data) // 2 // 188 * 188])
    with rtsp(tmp_path / "half.ts", path="recorded") as address:
        *frames, last = read(address)
    assert len(frames) < FPS - 1
    assert "breaks off after" in last.reason


@pytest.mark.parametrize(
    ("path", "login", "reason"),
    [
        ("gone", "", "RTSP 404 Not Found"),
        ("locked", "", "RTSP 401 Unauthorized; give user name and password: rtsp://USER:PASSW"),
        ("locked", "me:wrong@", "RTSP 401 Unauthorized; user name or password is wrong"),
    ],
)
def test_a_stream_that_the_server_refuses(path, login, reason):
    with rtsp("unused", path=path, login=login) as address:
        (found,) = read(address)
    assert isinstance(found, UnreadableSource)
    assert found.reason.startswith(f"{address}: cannot be opened: {reason}")
    assert "wrong@" not in found.reason  # nor the password


def test_a_server_that_is_not_there():
    with rtsp("unused") as address:
        pass
    (found,) = read(address)
    assert found.reason == f"{address}: cannot be opened: Connection refused"


def test_a_server_that_speaks_no_rtsp():
    script = TESTS / "stream_server.py"
    with served(script, "text/plain", "unused", url="rtsp://127.0.0.1:{}/live") as address:
        (found,) = read(address)
    assert found.reason.startswith(f"{address}: cannot be opened")
