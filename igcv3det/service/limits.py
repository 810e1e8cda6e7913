"""What a request may cost."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Limits of one service.

    Attributes:
        max_bytes: of a request's body; more is refused with 413.
        max_pixels: of an image, by its header, before it is decoded; more is refused with 413.
        max_requests: that are received, decoded or waiting at once; more are refused with 503.
        seconds: from the start of a request to its reply. An upload that takes longer is refused
            with 408, and an image that was received but not reached with 503.
        batch_size: the most images in one forward pass. A GPU gains by more; on a CPU an image of
            a batch of 8 takes longer than one alone (docs/serve.md).
        batch_wait: seconds for which an incomplete batch waits for more images; 0 takes what has
            arrived.
        workers: forward passes that run at once.

    Raises:
        ValueError: a limit below 1, or a time that is negative or not finite.
    """

    max_bytes: int = 16 * 2**20
    max_pixels: int = 50_000_000
    max_requests: int = 64
    seconds: float = 30.0
    batch_size: int = 2
    batch_wait: float = 0.0
    workers: int = 1

    def __post_init__(self) -> None:
        for name in ("max_bytes", "max_pixels", "max_requests", "batch_size", "workers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be >= 1, got {getattr(self, name)}")
        if not 0 < self.seconds < float("inf"):
            raise ValueError(f"seconds must be a number > 0, got {self.seconds}")
        if not 0 <= self.batch_wait < float("inf"):
            raise ValueError(f"batch_wait must be a number >= 0, got {self.batch_wait}")
