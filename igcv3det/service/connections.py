"""Connections whose requests must begin in time."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from igcv3det.service.refusal import UPLOAD

_BODY = json.dumps({"file": UPLOAD, "error": "the headers took too long"}).encode()
_REPLY = (
    b"HTTP/1.1 408 Request Timeout\r\n"
    b"content-type: application/json\r\n"
    b"content-length: %d\r\n"
    b"connection: close\r\n"
    b"\r\n%s"
) % (len(_BODY), _BODY)


class Connection(H11Protocol):
    """A connection that is closed if the headers of a request do not arrive in time.

    Uvicorn limits only how long a connection may be idle between two requests. The time counts from
    the start of the connection, and from the first byte of each later request; more bytes do not
    extend it. A request that has begun is answered with 408.

    Args:
        config: see uvicorn.
        server_state: see uvicorn.
        app_state: see uvicorn.
        _loop: see uvicorn.
        header_seconds: for the headers of a request.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        header_seconds: float,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._header_seconds = header_seconds
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Starts the time of the first request."""
        super().connection_made(transport)
        self._start()

    def data_received(self, data: bytes) -> None:
        """Ends the time when the headers are complete."""
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._stop()
        elif self._deadline is None:
            self._start()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forgets the connection."""
        self._stop()
        super().connection_lost(exc)

    def _start(self) -> None:
        self._deadline = self.loop.call_later(self._header_seconds, self._refuse)

    def _stop(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _refuse(self) -> None:
        has_begun = bool(self.conn.trailing_data[0])
        if has_begun and not self.transport.is_closing():
            self.transport.write(_REPLY)
        self.transport.close()
