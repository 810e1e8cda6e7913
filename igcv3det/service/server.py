"""The process that serves: its socket, its signals and its end."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Iterator
from functools import partial
from types import FrameType
from typing import cast

import PIL.Image
import uvicorn
from fastapi import FastAPI

from igcv3det.service.connections import Connection

HEADER_SECONDS = 10.0  # for the headers of a request, which are a few packets
BACKLOG = 2048  # connections that the system holds until they are accepted


def bind(host: str, port: int) -> socket.socket:
    """A socket with this address, which nobody else can take.

    Args:
        host: name or address.
        port: 0 takes a free one.

    Raises:
        OSError: the address is in use, not this machine's, or not known; the message names it.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        own = socket.socket(family, kind, protocol)
        try:
            own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            own.bind(address)
        except OSError:
            own.close()
            raise
    except OSError as error:
        raise OSError(f"{host}:{port}: {error.strerror or error}") from None
    return own


def address_of(own: socket.socket) -> str:
    """The URL of a service at a socket."""
    host, port = own.getsockname()[:2]
    return f"http://[{host}]:{port}" if own.family == socket.AF_INET6 else f"http://{host}:{port}"


def run(app: FastAPI, own: socket.socket, seconds: float) -> None:
    """Serves until SIGTERM or an interrupt; requests in flight are answered first.

    Args:
        app: the application.
        own: a result of `bind`, on which connections may wait already.
        seconds: that requests in flight get after the signal, and headers at most.

    Raises:
        KeyboardInterrupt: after an interrupt (SIGINT).
    """
    connection = partial(Connection, header_seconds=min(HEADER_SECONDS, seconds))
    config = uvicorn.Config(
        app,
        http=cast("type[asyncio.Protocol]", connection),
        log_level="warning",
        access_log=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_graceful_shutdown=max(1, round(seconds)),
    )
    PIL.Image.MAX_IMAGE_PIXELS = None  # the service has a limit of its own
    with _sigterm_ends_without_error():
        uvicorn.Server(config).run(sockets=[own])


@contextlib.contextmanager
def _sigterm_ends_without_error() -> Iterator[None]:
    """Uvicorn stops at SIGTERM and then sends it to the process again, which would end it."""

    def ignore(number: int, frame: FrameType | None) -> None:
        del number, frame

    before = signal.signal(signal.SIGTERM, ignore)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
