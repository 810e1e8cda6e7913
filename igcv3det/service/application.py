"""The application: POST /detect, GET /health, GET /metrics."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import torch
from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from torch import Tensor

from igcv3det.io.frames import Frame
from igcv3det.io.images import Image
from igcv3det.io.records import frame_record
from igcv3det.predictor import Predictor
from igcv3det.service.batching import Batcher
from igcv3det.service.limits import Limits
from igcv3det.service.metrics import CONTENT_TYPE, CountRequests, Metrics
from igcv3det.service.refusal import UPLOAD, RefusalError, busy
from igcv3det.service.uploads import Upload, decode_upload, drop_body, read_upload
from igcv3det.version import __version__

_DECODERS = 2  # threads that decode images while the network runs
SLOW = 408
_IMAGE = {"content": {"image/*": {"schema": {"type": "string", "format": "binary"}}}}


def build_app(
    predictor: Predictor, limits: Limits | None = None, *, threshold: float = 0.3
) -> FastAPI:
    """The service of one detector.

    Args:
        predictor: loaded; the application answers /health from its first moment.
        limits: of requests; None takes the defaults.
        threshold: confidence threshold of requests that name none, in [0, 1).
    """
    service = _Service(predictor, limits or Limits(), threshold)
    app = FastAPI(
        title="igcv3det",
        version=__version__,
        lifespan=lambda _: service.running(),
        docs_url=None,  # its page loads scripts from another host
        redoc_url=None,
    )
    paths = frozenset({"/detect", "/health", "/metrics"})
    app.add_middleware(CountRequests, metrics=service.metrics, paths=paths)
    app.add_exception_handler(RefusalError, _answer)
    app.add_exception_handler(RequestValidationError, _answer)
    app.add_exception_handler(HTTPException, _answer)
    app.add_exception_handler(Exception, _answer_to_fault)  # it is logged as well
    app.post("/detect", openapi_extra={"requestBody": _IMAGE})(service.detect)
    app.get("/health")(service.health)
    app.get("/metrics")(service.show_metrics)
    return app


class _Service:
    """The handlers of the application and what they share."""

    def __init__(self, predictor: Predictor, limits: Limits, threshold: float) -> None:
        self.metrics = Metrics()
        self._predictor = predictor
        self._limits = limits
        self._threshold = threshold
        self._in_flight = 0
        self._batcher = Batcher(
            predictor,
            limits.batch_size,
            limits.batch_wait,
            limits.workers,
            self.metrics.batches.observe,
        )
        self._decoders = ThreadPoolExecutor(_DECODERS, thread_name_prefix="decode")

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The network runs as long as the application does."""
        batches = asyncio.create_task(self._batcher.run())
        try:
            yield
        finally:
            batches.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await batches
            self._decoders.shutdown()

    async def detect(
        self,
        request: Request,
        threshold: Annotated[float | None, Query(ge=0, lt=1, allow_inf_nan=False)] = None,
        classes: Annotated[str | None, Query(description="names with commas between")] = None,
    ) -> Response:
        """Detects the objects of an image, the request's body or a file in its form."""
        with self._admitted():
            return _json(await self._record(request, threshold, self._labels(classes)))

    async def health(self) -> dict[str, Any]:
        """Whether the service can detect."""
        return {"status": "ready", "classes": list(self._predictor.categories.names)}

    async def show_metrics(self) -> Response:
        """Counters for Prometheus."""
        return Response(self.metrics.text(), media_type=CONTENT_TYPE)

    @contextlib.contextmanager
    def _admitted(self) -> Iterator[None]:
        """Counts a request as long as it is in flight.

        Raises:
            RefusalError: too many are (503).
        """
        if self._in_flight >= self._limits.max_requests:
            raise busy("too many requests are waiting; try again")
        self._in_flight += 1
        self.metrics.in_flight.set(self._in_flight)
        try:
            yield
        finally:
            self._in_flight -= 1
            self.metrics.in_flight.set(self._in_flight)

    def _labels(self, classes: str | None) -> Tensor | None:
        """The labels of the classes that a request asks for; None for all.

        Raises:
            RefusalError: the detector has no such class (400).
        """
        if classes is None:
            return None
        names = [name.strip() for name in classes.split(",") if name.strip()]
        if not names:
            raise RefusalError(400, "classes: names no class")
        try:
            return torch.tensor(self._predictor.categories.labels_of(names), dtype=torch.int64)
        except ValueError as error:
            raise RefusalError(400, f"classes: {error}") from None

    async def _record(
        self, request: Request, threshold: float | None, labels: Tensor | None
    ) -> dict[str, Any]:
        """The record of the image in a request.

        Raises:
            RefusalError: there is no such image, or the time is over (408, 503).
        """
        upload: Upload | None = None
        try:
            async with asyncio.timeout(self._limits.seconds):
                upload = await read_upload(request, self._limits.max_bytes)
                image, tensor = await asyncio.get_running_loop().run_in_executor(
                    self._decoders, self._decode, upload
                )
                chosen = self._threshold if threshold is None else threshold
                found = await self._batcher.detect(tensor, image.shape[:2], chosen, labels)
        except TimeoutError:
            if upload is None:
                raise RefusalError(SLOW, "the upload took too long") from None
            raise busy("the service is too slow for its load; try again") from None
        return frame_record(Frame(Path(upload.name), image), found)

    def _decode(self, upload: Upload) -> tuple[Image, Tensor]:
        """An image and the network input of it."""
        image = decode_upload(upload, self._limits)
        return image, self._predictor.preprocess(image)


async def _answer(request: Request, error: Exception) -> Response:
    """The reply to a request that failed: a record as ``predict --json`` has it."""
    if getattr(error, "status", None) != SLOW:
        await drop_body(request)
    if isinstance(error, RefusalError):
        return _json({"file": error.file, "error": error.reason}, error.status, error.headers)
    if isinstance(error, RequestValidationError):
        first = error.errors()[0]
        return _json({"file": UPLOAD, "error": f"{first['loc'][-1]}: {first['msg']}"}, 400)
    assert isinstance(error, HTTPException)
    return _json({"error": error.detail}, error.status_code, error.headers)


async def _answer_to_fault(request: Request, error: Exception) -> Response:
    return _json({"error": "internal error: the log of the service has it"}, 500)


def _json(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(json.dumps(value), status, headers, media_type="application/json")
