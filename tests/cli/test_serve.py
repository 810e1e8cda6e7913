"""The command serve: a real process on a real port, and calls that cannot start."""

import http.client
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path

import PIL.Image
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
pytest.importorskip("python_multipart")
pytest.importorskip("prometheus_client")

from igcv3det.checkpoint import save_detector
from igcv3det.cli.serve import main
from igcv3det.config import BackboneConfig, DetectorConfig, HeadConfig
from igcv3det.detector import build_detector

ROOT = Path(__file__).resolve().parent.parent.parent
CONFIG = DetectorConfig(
    num_classes=2,
    image_size=64,
    backbone=BackboneConfig(name="mobilenetv2", width=0.1),
    head=HeadConfig(extra_channels=(16, 16)),
)


OPTIONS = ("--max-megapixels", "400")  # Pillow alone takes up to 179


@pytest.fixture(autouse=True)
def same_environment(monkeypatch):
    """The command sets limits of OpenCV, which programs of later tests would inherit."""
    for name in ("OPENCV_IO_MAX_IMAGE_PIXELS", "OPENCV_LOG_LEVEL"):
        monkeypatch.setenv(name, os.environ.get(name, ""))
        monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("serve") / "tiny.safetensors"
    save_detector(build_detector(CONFIG), path)
    return path


@pytest.fixture
def service(checkpoint):
    """Process and port of a service."""
    command = [sys.executable, "-m", "igcv3det", "serve", "--checkpoint", checkpoint]
    process = subprocess.Popen(
        [*command, "--port", "0", "--timeout", "3", "--batch-wait", "500", *OPTIONS],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        line = process.stdout.readline()
        yield process, int(re.fullmatch(r"Serving at http://127\.0\.0\.1:(\d+)\n", line)[1])
    finally:
        process.kill()
        process.communicate()


def _post(port, body, query=""):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("POST", f"/detect{query}", body)
        reply = connection.getresponse()
        return reply.status, json.loads(reply.read())
    finally:
        connection.close()


def _png_chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def test_a_process_serves_and_ends_after_what_is_in_flight(service, tmp_path):
    process, port = service
    PIL.Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    image = (tmp_path / "a.png").read_bytes()
    status, record = _post(port, image)
    assert (status, record["width"], record["height"]) == (200, 40, 30)

    header = b"\x89PNG\r\n\x1a\n" + _png_chunk(
        b"IHDR", struct.pack(">IIBBBBB", 14000, 14000, 8, 2, 0, 0, 0)
    )
    assert _post(port, header + _png_chunk(b"IDAT", b"cut"))[0] == 422  # and not too many pixels

    # Several times what the system buffers: the client is still sending when it is refused
    assert _post(port, bytes(20_000_000))[0] == 413
    assert _post(port, bytes(10_000_000), "?threshold=2")[0] == 400
    with socket.create_connection(("127.0.0.1", port), timeout=20) as slow:
        slow.sendall(b"POST /detect HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nx")
        assert b" 408 " in slow.recv(4096).split(b"\r\n")[0]

    replies = []
    last = threading.Thread(target=lambda: replies.append(_post(port, image)[0]))
    last.start()
    time.sleep(0.25)  # it is received, and its batch waits for 0.5 s
    process.send_signal(signal.SIGTERM)
    last.join(20)
    output, errors = process.communicate(timeout=20)
    assert replies == [200]
    assert (process.returncode, output, errors) == (0, "", "")


def test_a_port_in_use_is_named(checkpoint, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["--checkpoint", str(checkpoint), "--port", str(port)]) == 1
    assert capsys.readouterr().err == f"serve: 127.0.0.1:{port}: Address already in use\n"


def test_a_bad_checkpoint_is_named(tmp_path, capsys):
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"no weights")
    assert main(["--checkpoint", str(path), "--port", "0"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"serve: {path}: ")


@pytest.mark.parametrize(
    "args", [["--port", "70000"], ["--port", "x"], ["--timeout", "0"], ["--threshold", "2"]]
)
def test_wrong_calls(args):
    with pytest.raises(SystemExit) as stop:
        main(args)
    assert stop.value.code == 2


def test_the_container_file_copies_what_the_clone_has():
    text = (ROOT / "docker" / "Dockerfile").read_text()
    sources = [
        source
        for words in re.findall(r"^COPY (?!--from)(.*) \S+$", text, re.M)
        for source in words.split()
    ]
    assert sources
    assert all((ROOT / source).exists() for source in sources)
    sent = (ROOT / "docker" / "Dockerfile.dockerignore").read_text().splitlines()
    assert {f"!{source}" for source in sources} <= set(sent)
