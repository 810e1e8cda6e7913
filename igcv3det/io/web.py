"""What a web server answers to: an image, or something that OpenCV reads as a stream."""

from __future__ import annotations

import base64
import http.client
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit
from urllib.request import Request

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


class _OwnHostRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects; user name and password stay with their host."""

    def redirect_request(self, req: Request, *answer: Any) -> Request | None:  # noqa: ANN401
        """The request of the new address."""
        new = super().redirect_request(req, *answer)
        if new is not None and urlsplit(new.full_url).netloc != urlsplit(req.full_url).netloc:
            new.remove_header("Authorization")
        return new


class _Digest(urllib.request.HTTPDigestAuthHandler):
    """Answers a server that asks for Digest; one that asks for anything else has refused."""

    def http_error_401(self, *answer: Any) -> Any:  # noqa: ANN401
        """The answer to the request with a login; None leaves the error as it is."""
        try:
            return super().http_error_401(*answer)
        except ValueError:
            return None


def _opener_and_request(
    address: Address,
) -> tuple[urllib.request.OpenerDirector, Request]:
    """A request with the URL's user name and password: Basic at once, Digest where it is asked."""
    parts = urlsplit(address.text)
    login, _, host = parts.netloc.rpartition("@")
    url = urlunsplit(parts._replace(netloc=host, fragment=""))
    request = Request(url, headers={"User-Agent": "igcv3det"})
    handlers: list[urllib.request.BaseHandler] = [_OwnHostRedirects()]
    if login:
        user, _, password = login.partition(":")
        token = base64.b64encode(unquote(login).encode()).decode()
        request.add_header("Authorization", f"Basic {token}")
        known = urllib.request.HTTPPasswordMgrWithDefaultRealm()
        known.add_password(None, f"{parts.scheme}://{host}/", unquote(user), unquote(password))
        handlers.append(_Digest(known))
    return urllib.request.build_opener(*handlers), request
