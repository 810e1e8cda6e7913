"""Constant-velocity Kalman filters of boxes: centre, width and height, each with its velocity.

The four coordinates are independent, so a filter is three numbers of covariance each, and all
tracks are computed together. Time is in frames and may advance by any amount, which a variable
frame rate and frames without detections need.

Standard deviations are shares of the box's size: those of ByteTrack (Zhang et al.,
arXiv:2110.06864) and DeepSORT, with the width for x and the height for y as in BoT-SORT
(Aharon et al., arXiv:2206.14651).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

POSITION_SHARE = 1 / 20
"""Standard deviation of a detected coordinate, and of what a frame adds to a predicted one."""
VELOCITY_SHARE = 1 / 160
"""Standard deviation of what a frame adds to a velocity."""
FIRST_POSITION, FIRST_VELOCITY = 2, 10
"""Times these of a new track."""


@dataclass
class Motion:
    """State of T tracks.

    Attributes:
        place: [T, 4] centre x and y, width, height, pixels.
        velocity: [T, 4] pixels a frame.
        variance: [T, 4] of the place.
        covariance: [T, 4] of place and velocity.
        velocity_variance: [T, 4].
    """

    place: Array
    velocity: Array
    variance: Array
    covariance: Array
    velocity_variance: Array

    @classmethod
    def start(cls, boxes: Array) -> Self:
        """Tracks that begin at boxes [T, 4] xyxy, at rest."""
        place = _to_place(boxes)
        size = _sizes(place)
        return cls(
            place,
            np.zeros_like(place),
            (FIRST_POSITION * POSITION_SHARE * size) ** 2,
            np.zeros_like(place),
            (FIRST_VELOCITY * VELOCITY_SHARE * size) ** 2,
        )

    def advance(self, frames: float) -> None:
        """Moves all tracks by some frames."""
        size = _sizes(self.place)
        self.place += frames * self.velocity
        self.place[:, 2:] = np.maximum(self.place[:, 2:], 1.0)
        self.variance += frames * (2 * self.covariance + frames * self.velocity_variance)
        self.variance += frames * (POSITION_SHARE * size) ** 2
        self.covariance += frames * self.velocity_variance
        self.velocity_variance += frames * (VELOCITY_SHARE * size) ** 2

    def correct(self, rows: NDArray[np.int64], boxes: Array) -> None:
        """Takes over what was detected.

        Args:
            rows: [M] tracks.
            boxes: [M, 4] xyxy, their detections.
        """
        detected = _to_place(boxes)
        noise = (POSITION_SHARE * _sizes(detected)) ** 2
        total = self.variance[rows] + noise
        place_gain, velocity_gain = self.variance[rows] / total, self.covariance[rows] / total
        surprise = detected - self.place[rows]
        self.place[rows] += place_gain * surprise
        self.velocity[rows] += velocity_gain * surprise
        self.velocity_variance[rows] -= velocity_gain * self.covariance[rows]
        self.covariance[rows] *= 1 - place_gain
        self.variance[rows] *= 1 - place_gain

    def keep_size(self, rows: NDArray[Any]) -> None:
        """Ends the growth of tracks that were not detected, as ByteTrack does."""
        self.velocity[rows, 2:] = 0

    @property
    def boxes(self) -> Array:
        """[T, 4] xyxy."""
        half = self.place[:, 2:] / 2
        return np.concatenate([self.place[:, :2] - half, self.place[:, :2] + half], axis=1)

    def select(self, rows: NDArray[Any]) -> Self:
        """Some of the tracks, by mask or indices."""
        return type(self)(*(getattr(self, field.name)[rows] for field in fields(self)))

    def extend(self, other: Self) -> Self:
        """These tracks and others after them."""
        pairs = ((getattr(self, f.name), getattr(other, f.name)) for f in fields(self))
        return type(self)(*(np.concatenate(pair) for pair in pairs))


def _to_place(boxes: Array) -> Array:
    centre, size = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    return np.concatenate([centre, size], axis=1)


def _sizes(place: Array) -> Array:
    """[T, 4] width, height, width, height: the scale of each coordinate."""
    return np.tile(place[:, 2:], 2)
