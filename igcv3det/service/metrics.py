"""What a service counts, in the text format of Prometheus."""

from __future__ import annotations

import time

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.types import ASGIApp, Message, Receive, Scope, Send

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_BATCHES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """The metrics of one service.

    Attributes:
        requests: requests answered, by path and status.
        seconds: time from a request's headers to the end of its reply, by path.
        batches: images in a forward pass.
        in_flight: requests that are received, decoded or waiting.
    """

    def __init__(self) -> None:
        own = self._registry = CollectorRegistry()
        self.requests = Counter(
            "igcv3det_requests", "Requests answered", ["path", "status"], registry=own
        )
        self.seconds = Histogram(
            "igcv3det_request_seconds",
            "Time of a request",
            ["path"],
            buckets=_SECONDS,
            registry=own,
        )
        self.batches = Histogram(
            "igcv3det_batch_images", "Images in a batch", buckets=_BATCHES, registry=own
        )
        self.in_flight = Gauge("igcv3det_in_flight", "Requests in flight", registry=own)
        ProcessCollector(registry=own)  # memory, processor time, open files

    def text(self) -> bytes:
        """All metrics as Prometheus reads them."""
        return generate_latest(self._registry)


class CountRequests:
    """ASGI middleware: counts and times the requests of known paths; all others are "other"."""

    def __init__(self, app: ASGIApp, metrics: Metrics, paths: frozenset[str]) -> None:
        self.app = app
        self.metrics = metrics
        self.paths = paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles a connection as ASGI defines it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = scope["path"] if scope["path"] in self.paths else "other"
        status, start = 500, time.perf_counter()

        async def note_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, note_status)
        finally:
            self.metrics.requests.labels(path, str(status)).inc()
            self.metrics.seconds.labels(path).observe(time.perf_counter() - start)
