"""Why an RTSP server does not give a stream: OpenCV only says that it cannot be opened."""

from __future__ import annotations

import base64
import re
import socket
from urllib.parse import unquote, urlsplit, urlunsplit

from igcv3det.io.addresses import Address

PORT = 554  # where a URL names none
TIMEOUT_S = 5.0
_STATUS = re.compile(rb"RTSP/[\d.]+ (\d{3}) ?([ -~]*)")
_ASKED = "give user name and password: rtsp://USER:PASSWORD@HOST/PATH"
_REFUSED = "user name or password is wrong"


def refusal(address: Address, timeout: float = TIMEOUT_S) -> str | None:
    """The server's answer to a description of the stream that was asked for.

    Args:
        address: that could not be opened.
        timeout: for the connection and for the answer, in seconds.

    Returns:
        What is in the way; None where this is not known: the server describes the stream, or the
        URL is not of RTSP without encryption.
    """
    parts = urlsplit(address.text)
    if parts.scheme.lower() != "rtsp":
        return None
    login, _, host = parts.netloc.rpartition("@")
    url = urlunsplit(parts._replace(netloc=host, fragment=""))
    lines = [f"DESCRIBE {url} RTSP/1.0", "CSeq: 1", "Accept: application/sdp"]
    if login:
        token = base64.b64encode(unquote(login).encode()).decode()
        lines.append(f"Authorization: Basic {token}")
    try:
        where = parts.hostname or "", parts.port or PORT
        with socket.create_connection(where, timeout) as connection:
            connection.sendall("\r\n".join([*lines, "", ""]).encode())
            with connection.makefile("rb") as answer:
                status = _STATUS.match(answer.readline(1000))
    except (OSError, ValueError) as error:
        return getattr(error, "strerror", None) or str(error)
    if status is None:
        return "what answers there is no RTSP server"
    code, phrase = status[1].decode(), status[2].decode().strip()
    if code == "200":
        return None
    way_out = f"; {_REFUSED if login else _ASKED}" if code == "401" else ""
    return f"RTSP {code} {phrase}{way_out}"
