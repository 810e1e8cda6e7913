"""Streams of a real server in a process of its own: MJPEG and MPEG-TS over HTTP."""

import logging
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from igcv3det.io.addresses import Address
from igcv3det.io.images import ImageReadError, write_image
from igcv3det.io.streams import open_capture, read_stream

SERVER = Path(__file__).parents[1] / "stream_server.py"
LEVELS = (60, 180)
HEIGHT, WIDTH = 48, 64


def grey(level):
    return np.full((HEIGHT, WIDTH, 3), level, np.uint8)


def write_jpeg(path, level):
    write_image(path, grey(level))


def write_transport_stream(path, level):
    av = pytest.importorskip("av", reason="needs the extra igcv3det[video]")
    with av.open(str(path), "w", format="mpegts") as container:
        stream = container.add_stream("mpeg2video", rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for _ in range(25):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey(level), format="rgb24")))
        container.mux(stream.encode())


@contextmanager
def served(kind, files):
    command = [sys.executable, "-S", str(SERVER), kind, *map(str, files)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            yield Address(f"http://127.0.0.1:{server.stdout.readline().strip()}/video")
        finally:
            server.kill()


@pytest.mark.parametrize(
    ("kind", "write", "suffix"),
    [
        ("multipart/x-mixed-replace", write_jpeg, "jpg"),
        ("video/mp2t", write_transport_stream, "ts"),
    ],
    ids=["mjpeg", "mpegts"],
)
def test_a_server_that_drops_the_connection_and_ends(tmp_path, caplog, kind, write, suffix):
    files = [tmp_path / f"{level}.{suffix}" for level in LEVELS]
    for file, level in zip(files, LEVELS, strict=True):
        write(file, level)
    frames = []
    with served(kind, files) as address, caplog.at_level(logging.WARNING):
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
