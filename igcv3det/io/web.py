"""What a web server answers to: an image, or something that OpenCV reads as a stream."""

from __future__ import annotations

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
        opener, request = _opener_and_request(address)
        with opener.open(request, timeout=TIMEOUT_S) as answer:
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


def _opener_and_request(
    address: Address,
) -> tuple[urllib.request.OpenerDirector, urllib.request.Request]:
    """A request without user name and password, and what sends them to its host alone.

    Basic at once, Digest where the host asks for it.
    """
    parts = urlsplit(address.text)
    login, _, host = parts.netloc.rpartition("@")
    url = urlunsplit(parts._replace(netloc=host, fragment=""))
    handlers: list[urllib.request.BaseHandler] = []
    if login:
        user, _, password = login.partition(":")
        known = urllib.request.HTTPPasswordMgrWithPriorAuth()
        known.add_password(None, url, unquote(user), unquote(password), is_authenticated=True)
        handlers = [
            urllib.request.HTTPDigestAuthHandler(known),
            urllib.request.HTTPBasicAuthHandler(known),
        ]
    request = urllib.request.Request(url, headers={"User-Agent": "igcv3det"})
    return urllib.request.build_opener(*handlers), request
