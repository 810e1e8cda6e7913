"""Sources that are no files: cameras by their index, streams and images behind URLs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit, urlunsplit

_URL = re.compile(r"(?:rtsps?|rtmps?|https?|udp|tcp)://", re.IGNORECASE)
_MAX_CAMERA_DIGITS = 3  # longer numbers are names of files that are missing


@dataclass(frozen=True)
class Address:
    """A camera or a URL. As text it is what the user wrote, without user name and password.

    Example:
        >>> camera, stream = Address("0"), Address("rtsp://me:secret@host:554/yard/1?sub=2")
        >>> str(camera), camera.stem, str(stream), stream.stem
        ('camera 0', 'camera_0', 'rtsp://host:554/yard/1?sub=2', '1')

    Attributes:
        text: as the user wrote it.
    """

    text: str

    @property
    def camera(self) -> int | None:
        """Index of a camera; None for a URL."""
        return int(self.text) if self.text.isdecimal() else None

    @property
    def is_http(self) -> bool:
        """Whether a web server is asked."""
        return self.text.lower().startswith(("http://", "https://"))

    @property
    def stem(self) -> str:
        """A file name for drawings, without an ending."""
        if self.camera is not None:
            return f"camera_{self.camera}"
        parts = urlsplit(self.text)
        name = PurePosixPath(unquote(parts.path)).stem or parts.hostname or "stream"
        return re.sub(r"[^\w.-]", "_", name)

    @property
    def suffix(self) -> str:
        """Ending of the URL's path; empty for a camera."""
        return "" if self.camera is not None else PurePosixPath(urlsplit(self.text).path).suffix

    def __str__(self) -> str:
        if self.camera is not None:
            return f"camera {self.camera}"
        parts = urlsplit(self.text)
        return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def parse_address(source: str) -> Address | None:
    """The camera or URL that a source stands for; None for files and patterns.

    Raises:
        ValueError: the URL is malformed.
    """
    is_camera = source.isascii() and source.isdecimal() and len(source) <= _MAX_CAMERA_DIGITS
    if not is_camera and not _URL.match(source):
        return None
    if not is_camera:
        urlsplit(source)  # complains of bad brackets
    return Address(source)
