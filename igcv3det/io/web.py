"""What a web server answers to: an image, or something that OpenCV reads as a stream."""

from __future__ import annotations

import base64
import http.client
import urllib.error
import urllib.request
from collections.abc import Iterator
from urllib.parse import unquote, urlsplit, urlunsplit

from igcv3det.io.addresses import Address
from igcv3det.io.frames import Frame
from igcv3det.io.images import EXTENSIONS, ImageReadError, decode_image
from igcv3det.io.rtsp import refusal
from igcv3det.io.streams import open_capture, read_stream
from igcv3det.io.videos import is_finite, read_capture

TIMEOUT_S = 10.0
MAX_BYTES = 500_000_000  # of an image


def read_address(address: Address) -> Iterator[Frame]:
    """The image behind a URL, or the frames of a stream, a camera or a video behind a URL.

    A web server is asked first what it has: an image is recognised by its content type or, where
    that says nothing, by the ending of the URL. What states its length is a video, of which every
    frame is read, also where an RTSP server sends it.

    Raises:
        ImageReadError: it cannot be opened or read.
    """
    data = _fetch_image(address) if address.is_http else None
    if data is not None:
        yield Frame(address, decode_image(data, str(address)))
        return
    capture = open_capture(address)
    if capture is None and (reason := refusal(address)) is not None:
        raise ImageReadError(f"{address}: cannot be opened: {reason}")
    if capture is not None and address.camera is None and is_finite(capture):
        try:
            yield from read_capture(capture, address)
        finally:
            capture.release()
        return
    yield from read_stream(address, capture)


def _fetch_image(address: Address) -> bytes | None:
    """The bytes of an image; None if the server has something else.

    Raises:
        ImageReadError: there is no answer, or it is an error, too long or cut off.
    """
    try:
        with urllib.request.urlopen(_request(address), timeout=TIMEOUT_S) as answer:
            kind = answer.headers.get_content_type()
            is_unknown = kind in ("application/octet-stream", "text/plain")  # plain: the default
            is_named = address.suffix.lower() in EXTENSIONS
            if not kind.startswith("image/") and not (is_unknown and is_named):
                return None
            data: bytes = answer.read(MAX_BYTES + 1)
            is_cut = bool(answer.length) and len(data) <= MAX_BYTES
    except urllib.error.HTTPError as error:
        raise ImageReadError(f"{address}: HTTP {error.code} {error.reason}") from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        reason = getattr(reason, "strerror", None) or reason
        raise ImageReadError(f"{address}: cannot be read: {reason}") from None
    if is_cut:
        raise ImageReadError(f"{address}: the download broke off")
    if len(data) > MAX_BYTES:
        raise ImageReadError(f"{address}: more than {MAX_BYTES // 10**6} MB")
    return data


def _request(address: Address) -> urllib.request.Request:
    """A request with the URL's user name and password as a header."""
    parts = urlsplit(address.text)
    login, _, host = parts.netloc.rpartition("@")
    request = urllib.request.Request(urlunsplit(parts._replace(netloc=host, fragment="")))
    request.add_header("User-Agent", "igcv3det")
    if login:
        token = base64.b64encode(unquote(login).encode()).decode()
        request.add_header("Authorization", f"Basic {token}")
    return request
