"""URLs, with a server of this process: images, videos, errors."""

import base64
import hashlib
import threading
import urllib.request
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from igcv3det.io.frames import Frame, UnreadableSource
from igcv3det.io.images import write_image
from igcv3det.io.sources import find_sources, read_sources
from igcv3det.io.videos import VideoWriter

GREY = np.full((16, 32, 3), 120, np.uint8)


@contextmanager
def server(answers):
    """Serves ``{path: (status, content type, bytes)}``; collects the requests' headers."""
    headers = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            headers.append(self.headers)
            status, kind, data = answers.get(self.path, (404, "text/plain", b"none"))
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data) + (10 if "cut" in self.path else 0)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args):
            """Says nothing."""

    with serving(Handler) as host:
        yield host, headers


@contextmanager
def serving(handler):
    """Serves with a handler; gives the address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"127.0.0.1:{http.server_port}"
        finally:
            http.shutdown()
            thread.join()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture(scope="module")
def png(tmp_path_factory):
    path = tmp_path_factory.mktemp("png") / "a.png"
    write_image(path, GREY)
    return path.read_bytes()


def read(*urls):
    return list(read_sources(find_sources(urls).files))


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/a", "image/png"), ("/a.png", "application/octet-stream"), ("/a.png?x=1", "image/jpeg")],
)
def test_an_image(png, path, kind):
    with server({path: (200, kind, png)}) as (host, _):
        (frame,) = read(f"http://{host}{path}")
    assert isinstance(frame, Frame)
    assert (frame.image == GREY).all()
    assert (str(frame.file), frame.index) == (f"http://{host}{path}", None)


def test_user_and_password_are_sent_and_not_shown(png):
    with server({"/a.png": (200, "image/png", png)}) as (host, headers):
        (frame,) = read(f"http://me:p%40ss@{host}/a.png")
    assert headers[0]["Authorization"] == "Basic " + base64.b64encode(b"me:p@ss").decode()
    assert str(frame.file) == f"http://{host}/a.png"


class DigestHandler(BaseHTTPRequestHandler):
    """Sends an image to who answers a challenge of Digest (RFC 7616), by md5 with qop=auth."""

    image = b""

    def do_GET(self):
        scheme, _, rest = self.headers.get("Authorization", "").partition(" ")
        is_right = scheme == "Digest" and self._is_right(rest)
        self.send_response(200 if is_right else 401)
        if not is_right:
            self.send_header("WWW-Authenticate", 'Digest realm="yard", nonce="n1", qop="auth"')
        self.send_header("Content-Type", "image/png")
        self.send_header("Content-Length", str(len(self.image) if is_right else 0))
        self.end_headers()
        if is_right:
            self.wfile.write(self.image)

    def _is_right(self, text):
        given = urllib.request.parse_keqv_list(urllib.request.parse_http_list(text))
        first, second = (_md5(text) for text in ("me:yard:p@ss", f"GET:{self.path}"))
        parts = (first, "n1", given["nc"], given["cnonce"], "auth", second)
        return given["response"] == _md5(":".join(parts))

    def log_message(self, *args):
        """Says nothing."""


def _md5(text):
    return hashlib.md5(text.encode()).hexdigest()


@pytest.mark.parametrize(("password", "is_read"), [("p%40ss", True), ("wrong", False)])
def test_a_server_that_asks_for_digest(png, password, is_read):
    handler = type("Handler", (DigestHandler,), {"image": png})
    with serving(handler) as host:
        (item,) = read(f"http://me:{password}@{host}/snap")
    assert isinstance(item, Frame) == is_read
    if not is_read:
        assert "HTTP 401" in item.reason


class Redirect(BaseHTTPRequestHandler):
    """Leads to another address, or sends an image."""

    target, image = "", b""

    def do_GET(self):
        self.seen.append(self.headers)
        self.send_response(302 if self.path == "/snap" else 200)
        self.send_header("Location", self.target)
        self.send_header("Content-Type", "image/png")
        self.send_header("Content-Length", str(len(self.image)))
        self.end_headers()
        self.wfile.write(self.image)

    def log_message(self, *args):
        """Says nothing."""


@pytest.mark.parametrize("is_other", [True, False])
def test_a_password_stays_with_its_host(png, is_other):
    with server({"/a.png": (200, "image/png", png)}) as (host, headers):
        target = f"http://{host.replace('127.0.0.1', 'localhost')}/a.png" if is_other else "/b.png"
        seen = [] if is_other else headers
        handler = type("Handler", (Redirect,), {"target": target, "image": png, "seen": seen})
        with serving(handler) as first:
            (frame,) = read(f"http://me:secret@{first}/snap")
    assert isinstance(frame, Frame)
    assert ("Authorization" in headers[-1]) is not is_other


def test_a_server_that_asks_for_another_login():
    class Bearer(DigestHandler):
        def do_GET(self):
            self.send_response(401)
            self.send_header("WWW-Authenticate", "Bearer")
            self.send_header("Content-Length", "0")
            self.end_headers()

    with serving(Bearer) as host:
        (item,) = read(f"http://me:secret@{host}/snap.png")
    assert item.reason == f"http://{host}/snap.png: HTTP 401 Unauthorized"


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/none.png", "HTTP 404 Not Found"),
        ("/broken.png", "not an image, or cut off"),
        ("/cut.png", "the download broke off"),
        ("/page", "cannot be opened"),
    ],
)
def test_what_is_no_image_is_named(png, path, reason):
    answers = {
        "/broken.png": (200, "image/png", b"hello"),
        "/cut.png": (200, "image/png", png),
        "/page": (200, "text/html", b"<html>"),
    }
    with server(answers) as (host, _):
        (item,) = read(f"http://{host}{path}")
    assert item == UnreadableSource(item.file, f"http://{host}{path}: {reason}")


def test_no_server(png):
    with server({}) as (host, _):
        url = f"http://{host}/a.png"
    (item,) = read(url)
    assert item.reason == f"{url}: cannot be read: Connection refused"


def test_a_video_behind_a_url_ends(tmp_path):
    with VideoWriter(tmp_path / "a.mp4", 10) as video:
        for _ in range(4):
            video.write(GREY)
    data = (tmp_path / "a.mp4").read_bytes()
    with server({"/a.mp4": (200, "video/mp4", data)}) as (host, _):
        frames = read(f"http://{host}/a.mp4")
    assert [(frame.index, frame.total) for frame in frames] == [(0, 4), (1, 4), (2, 4), (3, 4)]


def test_a_file_of_that_name_takes_precedence_over_a_camera(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_image(tmp_path / "x.png", GREY)
    (tmp_path / "x.png").rename("0")
    (frame,) = read("0")
    assert str(frame.file) == "0"


def test_a_malformed_url_is_an_unreadable_source():
    (item,) = read("http://[::1/a.jpg")
    assert item.reason == "http://[::1/a.jpg: cannot be read: Invalid IPv6 URL"
