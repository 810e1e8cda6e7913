"""Requests that get no detections."""

from __future__ import annotations

from collections.abc import Mapping

UPLOAD = "upload"  # the name of an image that was sent without one


class RefusalError(Exception):
    """A request that is answered by a status and a reason.

    Args:
        status: of HTTP.
        reason: one sentence for the client.
        file: name of the image.
        headers: of the reply.
    """

    def __init__(
        self,
        status: int,
        reason: str,
        file: str = UPLOAD,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.file = file
        self.headers = headers


def busy(reason: str) -> RefusalError:
    """503: the client may try again."""
    return RefusalError(503, reason, headers={"Retry-After": "1"})
