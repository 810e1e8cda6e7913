"""The image in a request: its body, or the file of a form."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import NamedTuple

import PIL.Image
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from igcv3det.io.images import Image, ImageReadError, decode_image, stored_size
from igcv3det.service.limits import Limits
from igcv3det.service.refusal import UPLOAD, RefusalError

MAX_SCANS = 32
"""Of a JPEG. Encoders write about ten; each further one decodes the whole image once more."""
_JPEG, _SCAN = b"\xff\xd8\xff", b"\xff\xda"
_FORM_FIELDS = 16
_OF_QUERY = ("threshold", "classes")
_NAME_LENGTH = 255
# A client that is still sending reads no reply; what it sends is dropped within these limits
_DRAIN_SECONDS, _DRAIN_BYTES = 2.0, 256 * 2**20


class Upload(NamedTuple):
    """An image as it was sent.

    Attributes:
        name: of the file; "upload" where the request has none.
        data: content of the file.
    """

    name: str
    data: bytes


async def read_upload(request: Request, max_bytes: int) -> Upload:
    """Receives the image of a request.

    Args:
        request: with the image as its body, or as the first file of a ``multipart/form-data`` form.
        max_bytes: of the body.

    Raises:
        RefusalError: the body is empty (400), larger than ``max_bytes`` (413) or a form that
            has no file or is cut off (400), or the client has gone (400).
    """
    try:
        if request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
            return await _read_form(request, max_bytes)
        chunks = [chunk async for chunk in _limited_body(request, max_bytes)]
    except ClientDisconnect:
        raise RefusalError(400, "the connection was closed before the image was complete") from None
    data = b"".join(chunks)
    if not data:
        raise RefusalError(400, "the request has no body: send an image")
    return Upload(UPLOAD, data)


async def drop_body(request: Request) -> None:
    """Receives the rest of a body and forgets it, so that its sender gets to read the reply.

    Within bounds: a sender that is slow, or never stops, finds the connection closed.
    """
    if "expect" in request.headers:
        return  # it sends nothing before it is told to
    dropped = 0
    try:
        async with asyncio.timeout(_DRAIN_SECONDS):
            async for chunk in request.stream():
                dropped += len(chunk)
                if dropped > _DRAIN_BYTES:
                    return
    except (TimeoutError, ClientDisconnect, RuntimeError):
        return  # RuntimeError: the body was consumed


def decode_upload(upload: Upload, limits: Limits) -> Image:
    """The image of an upload, [H, W, 3] uint8 RGB with the EXIF orientation applied.

    Raises:
        RefusalError: it is no image (415), has too many pixels (413) or scans (422), or is
            damaged (422).
    """
    name, data = upload
    try:
        height, width = stored_size(data, name)
    except ImageReadError as error:
        raise RefusalError(415, str(error), name) from None
    except PIL.Image.DecompressionBombError as error:
        raise RefusalError(413, f"{name}: {error}", name) from None
    if height * width > limits.max_pixels:
        reason = f"{name}: {width} x {height} pixels, but the service takes {limits.max_pixels}"
        raise RefusalError(413, reason, name)
    if data.startswith(_JPEG) and data.count(_SCAN) > MAX_SCANS:
        raise RefusalError(422, f"{name}: a JPEG of more than {MAX_SCANS} scans", name)
    try:
        return decode_image(data, name)
    except ImageReadError as error:
        raise RefusalError(422, str(error), name) from None


class _FormParser(MultiPartParser):
    """Reads the form of a request with one file.

    Args:
        request: with the form as its body.
        max_bytes: of the body.
    """

    def __init__(self, request: Request, max_bytes: int) -> None:
        body = self._whole(_limited_body(request, max_bytes))
        super().__init__(request.headers, body, max_files=1, max_fields=_FORM_FIELDS)
        self._is_closed = False

    def on_end(self) -> None:
        self._is_closed = True

    async def _whole(self, chunks: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        """The chunks; refuses a form that ends before its closing boundary and before its file."""
        async for chunk in chunks:
            yield chunk
        if not self._is_closed and not any(isinstance(v, UploadFile) for _, v in self.items):
            raise RefusalError(400, "the form is cut off: its closing boundary is missing")


async def _read_form(request: Request, max_bytes: int) -> Upload:
    parser = _FormParser(request, max_bytes)
    try:
        form = await parser.parse()
    except (MultiPartException, KeyError, ValueError) as error:  # KeyError: no boundary
        reason = error.message if isinstance(error, MultiPartException) else "malformed form"
        raise RefusalError(400, reason) from None
    files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
    if not files:
        raise RefusalError(400, "the form has no file: send the image as a file field")
    if misplaced := [name for name in _OF_QUERY if name in form]:
        await form.close()
        raise RefusalError(400, f"{misplaced[0]} is no form field: give it in the query")
    try:
        data = await files[0].read()
    finally:
        await form.close()
    name = (files[0].filename or UPLOAD)[:_NAME_LENGTH]
    if not data:
        raise RefusalError(400, f"{name}: the file is empty", name)
    return Upload(name, data)


async def _limited_body(request: Request, max_bytes: int) -> AsyncGenerator[bytes, None]:
    """The chunks of a body.

    Raises:
        RefusalError: it announces, or has, more than ``max_bytes``.
    """
    too_large = RefusalError(413, f"the request is larger than {max_bytes} bytes")
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > max_bytes:
        raise too_large
    received = 0
    async for chunk in request.stream():
        received += len(chunk)
        if received > max_bytes:
            raise too_large
        yield chunk
