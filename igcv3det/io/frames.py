"""What a source gives: images, or the reason why it gives none."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from igcv3det.io.addresses import Address
from igcv3det.io.images import Image


@dataclass(frozen=True)
class Frame:
    """An image, or one frame of a video or stream.

    Attributes:
        file: where it comes from.
        image: [H, W, 3] uint8 RGB, with the file's orientation applied.
        index: of the frame in its video, from 0; None for an image.
        time: seconds from the start of the video; None for an image.
        fps: nominal frames per second of the video; None for an image.
        total: frames that the video states to have; None if it does not, and for an image.
    """

    file: Path | Address
    image: Image
    index: int | None = None
    time: float | None = None
    fps: float | None = None
    total: int | None = None


@dataclass(frozen=True)
class UnreadableSource:
    """A source that gives no image, or not all of its frames.

    Attributes:
        file: the source.
        reason: one sentence that names it.
    """

    file: Path | Address
    reason: str
