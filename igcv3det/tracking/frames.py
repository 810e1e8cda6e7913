"""Detections with ids for the frames of videos, streams and folders of images."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import torch

from igcv3det.detection.iou import box_area
from igcv3det.io.frames import Frame
from igcv3det.io.images import Image
from igcv3det.structures import Detections
from igcv3det.tracking.tracker import Tracker

DEFAULT_FPS = 30.0  # of images without times
MIN_INSIDE = 0.5  # of the area of an expected box
SMOOTHING = 0.3
"""Weight of a new score where scores are smoothed; measured in docs/video.md."""


class FrameTracker:
    """Detects and tracks the objects of frames that come one after the other.

    Each video and stream is a sequence of its own, with ids from 1, and so are successive images of
    one folder.

    Args:
        detect: detects the objects of an image, with all scores from a third of the threshold up.
        threshold: as for `Tracker`.
        every: detect in every n-th frame; in between, objects move as they did before.
        smoothing: as for `Tracker`.

    Raises:
        ImportError: SciPy is not installed.
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        detect: Callable[[Image], Detections],
        threshold: float = 0.3,
        *,
        every: int = 1,
        smoothing: float | None = None,
    ) -> None:
        if every < 1:
            raise ValueError(f"every must be >= 1, got {every}")
        self._detect = detect
        self._every = every
        self._threshold, self._smoothing = threshold, smoothing
        self._start(DEFAULT_FPS)
        self._sequence: object = None

    def __call__(self, frame: Frame) -> Detections:
        """The objects of the next frame, with ids, in descending order of score.

        Between detections, and for smoothed tracks, boxes may be expected ones. They are clipped to
        the image, and left out where more than half of them is outside: the object has left.
        """
        sequence = frame.file
        if frame.index is None and isinstance(frame.file, Path):
            sequence = frame.file.parent
        if frame.index == 0 or sequence != self._sequence:
            self._start(frame.fps or DEFAULT_FPS)
            self._sequence = sequence
        is_detected = self._frames % self._every == 0
        self._frames += 1
        if is_detected:
            found = self._tracker.update(self._detect(frame.image), frame.time)
        else:
            found = self._tracker.predict(frame.time)
        return _inside(found, frame.image)

    def _start(self, fps: float) -> None:
        self._tracker = Tracker(self._threshold, smoothing=self._smoothing, fps=fps)
        self._frames = 0


def _inside(found: Detections, image: Image) -> Detections:
    height, width = image.shape[:2]
    limits = torch.tensor([width, height, width, height])
    boxes = torch.minimum(found.boxes.clamp(min=0), limits)
    sides = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0)
    is_inside = sides.prod(dim=1) >= MIN_INSIDE * box_area(found.boxes)
    return dataclasses.replace(found, boxes=boxes)[is_inside]
