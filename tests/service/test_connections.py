"""Requests whose headers come slowly, or not at all, on real connections to a small application."""

import socket
import threading
import time
from functools import partial

import pytest

pytest.importorskip("uvicorn")

import uvicorn

from igcv3det.service.connections import Connection

SECONDS = 0.4
HEAD = b"GET / HTTP/1.1\r\nHost: x\r\n"


async def _application(scope, receive, send):
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]}
    )
    await send({"type": "http.response.body", "body": b"ok"})


@pytest.fixture(scope="module")
def port():
    config = uvicorn.Config(
        _application,
        http=partial(Connection, header_seconds=SECONDS),
        lifespan="off",
        log_level="error",
        timeout_keep_alive=30,
    )
    with socket.create_server(("127.0.0.1", 0)) as own:
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [own]})
        thread.start()
        yield own.getsockname()[1]
        server.should_exit = True
        thread.join(10)


@pytest.fixture
def connection(port):
    with socket.create_connection(("127.0.0.1", port), timeout=10) as own:
        yield own


def _until_closed(connection):
    """All that the service still sends, and after how many seconds it closes."""
    start, received = time.monotonic(), b""
    while part := connection.recv(4096):
        received += part
    return received, time.monotonic() - start


def _ask(connection):
    connection.sendall(HEAD + b"\r\n")
    received = b""
    while not received.endswith(b"\r\n\r\nok"):
        received += connection.recv(4096)
    return received


def _drip(connection, stop):
    """A header line every 50 ms, which never end."""
    try:
        while not stop.wait(0.05):
            connection.sendall(b"X-Slow: 1\r\n")
    except OSError:
        pass  # closed by the service


def test_a_connection_that_sends_nothing_is_closed(connection):
    received, seconds = _until_closed(connection)
    assert received == b""
    assert SECONDS - 0.1 < seconds < 5


def test_headers_that_stop_are_refused(connection):
    connection.sendall(HEAD)
    received, _ = _until_closed(connection)
    assert received.startswith(b"HTTP/1.1 408 ")
    assert received.endswith(b'{"file": "upload", "error": "the headers took too long"}')


def test_headers_that_drip_get_no_more_time(connection):
    connection.sendall(HEAD)
    stop = threading.Event()
    thread = threading.Thread(target=_drip, args=(connection, stop))
    thread.start()
    try:
        received, seconds = _until_closed(connection)
    except ConnectionResetError:  # a line arrived after the end
        received, seconds = b"HTTP/1.1 408 ", 0.0
    finally:
        stop.set()
        thread.join()
    assert received.startswith(b"HTTP/1.1 408 ")
    assert seconds < 5


def test_the_headers_of_a_later_request_have_the_same_time(connection):
    assert _ask(connection).startswith(b"HTTP/1.1 200 ")
    time.sleep(1.5 * SECONDS)  # idle between requests: uvicorn's limit counts, not this one
    assert _ask(connection).startswith(b"HTTP/1.1 200 ")
    connection.sendall(HEAD)
    assert _until_closed(connection)[0].startswith(b"HTTP/1.1 408 ")


def test_slow_clients_do_not_delay_others(port):
    slow = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(50)]
    try:
        for one in slow:
            one.sendall(HEAD)
        with socket.create_connection(("127.0.0.1", port), timeout=10) as quick:
            assert _ask(quick).startswith(b"HTTP/1.1 200 ")
    finally:
        for one in slow:
            one.close()
