"""ByteTrack: detections matched with predicted boxes, those of high score first.

Zhang et al., ByteTrack, arXiv:2110.06864: a track that finds no detection of high score may take
one of low score, which an occluded object often has; only high scores begin tracks.

Differs from the paper's program in three points: detections match tracks of their own class only,
time may advance by any number of frames, and scores may be smoothed along a track.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from igcv3det.detection.iou import box_iou
from igcv3det.structures import Categories, Detections
from igcv3det.tracking.motion import Array, Motion

Rows = NDArray[np.int64]

LOW_SHARE = 1 / 3
"""Of the threshold: the score from which a detection continues a track."""
HIGH_IOU, LOW_IOU, NEW_IOU = 0.2, 0.5, 0.3
"""Least IoU with a predicted box: of high scores, of low scores, of a track's second detection."""
LOST_SECONDS, LOST_FRAMES = 1.0, 30
"""How long a track without detection is kept; frames where there are no times."""


@dataclass
class _Tracks:
    """T tracks.

    Attributes:
        motion: their boxes.
        ids: [T] int64; 0 for a track of one detection, which has no id yet.
        labels: [T] int64.
        scores: [T] of the last detection, or smoothed.
        seen: [T] time of the last detection, frames.
        reported: [T] bool, whether the track is part of the last result.
    """

    motion: Motion
    ids: NDArray[np.int64]
    labels: NDArray[np.int64]
    scores: Array
    seen: Array
    reported: NDArray[np.bool_]

    @classmethod
    def start(cls, boxes: Array, labels: NDArray[np.int64], scores: Array, time: float) -> Self:
        count = len(boxes)
        return cls(
            Motion.start(boxes),
            np.zeros(count, np.int64),
            labels,
            scores,
            np.full(count, time),
            np.zeros(count, np.bool_),
        )

    def __len__(self) -> int:
        return len(self.ids)

    def select(self, rows: NDArray[Any]) -> Self:
        others = {f.name: getattr(self, f.name)[rows] for f in fields(self)[1:]}
        return replace(self, motion=self.motion.select(rows), **others)

    def extend(self, other: Self) -> Self:
        pairs = {f.name: (getattr(self, f.name), getattr(other, f.name)) for f in fields(self)[1:]}
        others = {name: np.concatenate(pair) for name, pair in pairs.items()}
        return replace(self, motion=self.motion.extend(other.motion), **others)


class Tracker:
    """Gives the detections of successive frames the ids of the objects that they show.

    Ids count from 1. An object of the first frame has one at once, a later one from its second
    detection on, so that a single false detection does not count.

    Args:
        threshold: score in (0, 1) from which detections begin tracks and are matched first.
        smoothing: weight in (0, 1] of a new score in the smoothed score of a track, where no
            detection counts as score 0; a track is reported while its smoothed score reaches the
            threshold, with its predicted box where it was not detected. None reports each detection
            with its own score.
        fps: frames per second, for times.

    Raises:
        ImportError: SciPy is not installed.
        ValueError: an argument is out of range.

    Example:
        >>> tracker = Tracker(threshold=0.5)
        >>> box, score, label = [[0.0, 0, 10, 10]], [0.9], [1]
        >>> found = Detections(*map(torch.tensor, (box, score, label)))
        >>> tracker.update(found).ids, tracker.update(found).ids
        (tensor([1]), tensor([1]))
    """

    def __init__(
        self, threshold: float = 0.3, *, smoothing: float | None = None, fps: float = 30.0
    ) -> None:
        if not 0 < threshold < 1 or not 0 < fps < float("inf"):
            raise ValueError(
                f"a tracker needs a threshold in (0, 1) and fps > 0, got {threshold}, {fps}"
            )
        if smoothing is not None and not 0 < smoothing <= 1:
            raise ValueError(f"smoothing must be in (0, 1], got {smoothing}")
        _assignment()
        self.threshold = threshold
        self.low_threshold = threshold * LOW_SHARE
        self.smoothing = smoothing
        self.fps = fps
        self.reset()

    def reset(self) -> None:
        """Forgets all tracks; ids count from 1 again."""
        self._tracks = _Tracks.start(np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0), 0.0)
        self._categories: Categories | None = None
        self._time: float | None = None  # frames
        self._updated = 0.0  # when `update` was called last
        self._count = 0

    def update(self, detections: Detections, time: float | None = None) -> Detections:
        """Continues the tracks with the detections of the next frame.

        Args:
            detections: of the frame, with all scores from ``low_threshold`` up.
            time: of the frame, seconds; None is one frame after the frame before.

        Returns:
            The objects that are tracked, with ids, in descending order of score.
        """
        is_first = self._time is None
        now = self._advance(time)
        found = detections[detections.scores >= self.low_threshold]
        boxes = found.boxes.numpy().astype(np.float64).reshape(-1, 4)
        labels, scores = found.labels.numpy(), found.scores.numpy().astype(np.float64)
        rows, matched = self._match(boxes, labels, scores)
        self._continue(rows, boxes[matched], scores[matched], now)
        shown = self._tracks.motion.boxes
        shown[rows] = boxes[matched]  # as detected, not as filtered

        lost = LOST_FRAMES if time is None else LOST_SECONDS * self.fps
        is_found = np.isin(np.arange(len(self._tracks)), rows)
        is_kept = is_found | ((self._tracks.ids > 0) & (now - self._tracks.seen <= lost))
        is_new = scores >= self.threshold
        is_new[matched] = False
        begun = _Tracks.start(boxes[is_new], labels[is_new], scores[is_new], now)
        self._tracks = self._tracks.select(is_kept).extend(begun)
        if is_first:
            self._name(np.arange(len(begun)))
        self._updated, self._categories = now, detections.categories
        is_found = np.concatenate([is_found[is_kept], np.ones(len(begun), np.bool_)])
        if self.smoothing is not None:
            is_found = self._tracks.scores >= self.threshold
        self._tracks.reported = is_found & (self._tracks.ids > 0)
        return self._report(np.concatenate([shown[is_kept], boxes[is_new]]))

    def predict(self, time: float | None = None) -> Detections:
        """The objects of the last result, where they are expected in the next frame.

        Args:
            time: as for `update`.
        """
        self._advance(time)
        return self._report(self._tracks.motion.boxes)

    def _advance(self, time: float | None) -> float:
        """Moves all tracks to the next frame; its time in frames."""
        before = -1.0 if self._time is None else self._time
        now = before + 1 if time is None else time * self.fps
        if self._time is not None:
            now = max(now, before)  # timestamps may stand still
            self._tracks.motion.advance(now - before)
        self._time = now
        return now

    def _match(self, boxes: Array, labels: NDArray[np.int64], scores: Array) -> tuple[Rows, Rows]:
        """Rows of tracks, and the detections that continue them."""
        tracks = self._tracks
        overlap = box_iou(tracks.motion.boxes, boxes)
        overlap[tracks.labels[:, None] != labels] = 0
        has_id = tracks.ids > 0
        is_active = tracks.seen == self._updated
        is_high = scores >= self.threshold
        rounds = (
            (has_id, is_high, HIGH_IOU),
            (has_id & is_active, ~is_high, LOW_IOU),
            (~has_id, is_high, NEW_IOU),
        )
        rows, matched = np.zeros(0, np.int64), np.zeros(0, np.int64)
        for tracks_mask, detections_mask, least in rounds:
            free = np.setdiff1d(np.flatnonzero(tracks_mask), rows)
            candidates = np.setdiff1d(np.flatnonzero(detections_mask), matched)
            pairs = overlap[np.ix_(free, candidates)]
            a, b = _assignment()(-np.where(pairs >= least, pairs, 0))
            is_pair = pairs[a, b] >= least
            rows = np.concatenate([rows, free[a[is_pair]]])
            matched = np.concatenate([matched, candidates[b[is_pair]]])
        return rows, matched

    def _continue(self, rows: Rows, boxes: Array, scores: Array, now: float) -> None:
        """Takes over the detections of tracks; the others count as score 0."""
        tracks = self._tracks
        tracks.motion.correct(rows, boxes)
        tracks.motion.keep_size(np.setdiff1d(np.arange(len(tracks)), rows))
        new_scores = np.zeros(len(tracks))
        new_scores[rows] = scores
        weight = 1.0 if self.smoothing is None else self.smoothing
        tracks.scores += weight * (new_scores - tracks.scores)
        tracks.seen[rows] = now
        self._name(rows[tracks.ids[rows] == 0])

    def _name(self, rows: Rows) -> None:
        """Gives tracks the next ids."""
        self._tracks.ids[rows] = self._count + 1 + np.arange(len(rows))
        self._count += len(rows)

    def _report(self, boxes: Array) -> Detections:
        """The reported tracks with these boxes [T, 4]."""
        tracks, rows = self._tracks, self._tracks.reported
        found = Detections(
            torch.from_numpy(boxes[rows]).float(),
            torch.from_numpy(tracks.scores[rows]).float(),
            torch.from_numpy(tracks.labels[rows]),
            self._categories,
            torch.from_numpy(tracks.ids[rows]),
        )
        return found[found.scores.argsort(descending=True, stable=True)]


def _assignment() -> Any:  # noqa: ANN401 (SciPy has no types)
    """SciPy's solution of the assignment problem, imported when it is needed."""
    try:
        from scipy.optimize import linear_sum_assignment
    except ModuleNotFoundError as error:
        raise ImportError("tracking needs scipy: pip install 'igcv3det[track]'") from error
    return linear_sum_assignment
