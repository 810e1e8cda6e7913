"""The types of errors of TIDE, and what AP50 would be without each.

Source: Bolya et al., TIDE: A General Toolbox for Identifying Object Detection Errors,
arXiv:2008.08115, section 2, and its package tidecv 1.0.1, whose order of the tests this follows.
Differs from tidecv: true positives and the 101 recalls are COCO's (tidecv rounds some of the
recalls differently, and takes 100 detections an image of all classes), the mean is over the classes
with objects, and detections in crowd regions are not counted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from igcv3det.detection.iou import box_iou
from igcv3det.evaluation.coco_matches import MATCH_IOU, NONE, RECALLS, CocoMatches

BACKGROUND_IOU = 0.1
"""A detection that overlaps every object less is of the background."""
ERROR_TYPES: Final = (
    *("classification", "localisation", "both", "duplicate", "background", "missed"),
)
_CLASSIFICATION, _LOCALISATION, _BOTH, _DUPLICATE, _BACKGROUND, _MISSED = range(6)
_NO_ERROR = -1


@dataclass(frozen=True)
class ErrorType:
    """One type.

    Attributes:
        count: detections, or objects for "missed".
        gain: AP50 without these errors minus AP50, in 0..1.
    """

    count: int
    gain: float


@dataclass(frozen=True)
class ErrorTypes:
    """All types.

    Attributes:
        ap50: mean over the classes with objects; NaN if there are none.
        types: by the names `ERROR_TYPES`.
        false_positives: detections that are wrong; the gain has them all after the right ones.
        false_negatives: objects that are not found; the gain leaves them out.
    """

    ap50: float
    types: dict[str, ErrorType]
    false_positives: ErrorType
    false_negatives: ErrorType


def error_types(matches: CocoMatches) -> ErrorTypes:
    """Sorts the errors among some detections into types."""
    errors = _Errors(matches)
    base = errors.ap()
    counted = errors.kinds[~matches.is_ignored]
    types = {
        name: ErrorType(int((counted == kind).sum()), errors.gain(kind))
        for kind, name in enumerate(ERROR_TYPES[:-1])
    }
    unfound = ~errors.is_found
    missed = unfound & ~errors.is_mendable
    types["missed"] = ErrorType(int(missed.sum()), max(0.0, errors.ap(left_out=missed) - base))
    separated = errors.ap(scores=matches.is_right.astype(np.float64))
    return ErrorTypes(
        ap50=base,
        types=types,
        false_positives=ErrorType(int(matches.is_wrong.sum()), separated - base),
        false_negatives=ErrorType(int(unfound.sum()), errors.ap(left_out=unfound) - base),
    )


class _Errors:
    """The type of every detection, and AP50 after corrections.

    Attributes:
        kinds: [D] index into `ERROR_TYPES`; -1 for true positives.
        is_found: [G].
        is_mendable: [G], whether a wrong class or a wrong box is all that a detection of an object
            that is not found lacks.
    """

    def __init__(self, matches: CocoMatches) -> None:
        self._matches = matches
        self._classes = matches.class_of(matches.rows.category_ids)
        self._object_classes = matches.class_of_objects(matches.objects)
        self.is_found = np.isin(matches.objects, matches.matched[matches.is_right])
        self.kinds = np.full(len(matches.rows), _NO_ERROR)
        # index among the G objects that a correction gives to a detection
        self._aims = np.full(len(matches.rows), NONE, dtype=np.int64)
        self._sort()
        self.is_mendable = np.zeros(len(matches.objects), dtype=np.bool_)
        self.is_mendable[self._aims[self._aims != NONE]] = True
        # detections come in descending order of scores: the best one is mended, the others go
        objects, first = np.unique(self._aims, return_index=True)
        self._mends = np.zeros(len(self._aims), dtype=np.bool_)
        self._mends[first[objects != NONE]] = True

    def gain(self, kind: int) -> float:
        """What mending the errors of a type adds to AP50; never negative."""
        is_kind = self.kinds == kind
        mended = is_kind & self._mends
        classes = self._classes.copy()
        classes[mended] = self._object_classes[self._aims[mended]]
        is_right = self._matches.is_right | mended
        is_used = (~self._matches.is_ignored & ~is_kind) | mended
        return max(0.0, self._mean_ap(classes, is_right, is_used) - self.ap())

    def ap(
        self,
        *,
        scores: NDArray[np.float64] | None = None,
        left_out: NDArray[np.bool_] | None = None,
    ) -> float:
        """AP50 with other scores [D], or without some objects [G]."""
        is_right, is_used = self._matches.is_right, ~self._matches.is_ignored
        return self._mean_ap(self._classes, is_right, is_used, scores, left_out)

    def _mean_ap(
        self,
        classes: NDArray[np.intp],
        is_right: NDArray[np.bool_],
        is_used: NDArray[np.bool_],
        scores: NDArray[np.float64] | None = None,
        left_out: NDArray[np.bool_] | None = None,
    ) -> float:
        counts = np.bincount(self._object_classes, minlength=len(self._matches.category_ids))
        if left_out is not None:
            kept = np.bincount(self._object_classes[~left_out], minlength=len(counts))
        else:
            kept = counts
        precisions = []
        for index in np.flatnonzero(counts).tolist():
            rows = np.flatnonzero((classes == index) & is_used)
            if scores is not None:
                rows = rows[np.argsort(-scores[rows], kind="stable")]
            if len(rows) or kept[index]:
                precisions.append(_average_precision(is_right[rows], int(kept[index])))
        return float(np.mean(precisions)) if precisions else math.nan

    def _sort(self) -> None:
        """Tests the detections that are not right, image by image."""
        matches = self._matches
        image_ids = matches.truth.images.ids[matches.truth.image_rows[matches.objects]]
        by_image = _groups(image_ids)
        boxes = _corners(matches.rows.boxes)
        object_boxes = _corners(matches.truth.boxes[matches.objects])
        to_sort = np.flatnonzero(~matches.is_right)
        for image_id, places in _groups(matches.rows.image_ids[to_sort]).items():
            rows = to_sort[places]
            objects = by_image.get(image_id)
            if objects is None:
                self.kinds[rows] = _BACKGROUND
                continue
            ious = box_iou(boxes[rows], object_boxes[objects])
            is_same = self._classes[rows][:, None] == self._object_classes[objects]
            self._sort_image(rows, objects, ious, is_same)

    def _sort_image(
        self,
        rows: NDArray[np.intp],
        objects: NDArray[np.intp],
        ious: NDArray[np.floating[Any]],
        is_same: NDArray[np.bool_],
    ) -> None:
        """Sorts detections ``rows`` of an image by IoU [rows, objects]; the first test decides."""
        own, other = ious * is_same, ious * ~is_same
        best_own, best_other = own.max(axis=1), other.max(axis=1)
        used = (own * self.is_found[objects]).max(axis=1)
        tests = [
            (best_own >= BACKGROUND_IOU) & (best_own <= MATCH_IOU),
            best_other >= MATCH_IOU,
            used >= MATCH_IOU,
            ious.max(axis=1) <= BACKGROUND_IOU,
        ]
        kinds = np.select(tests, [_LOCALISATION, _CLASSIFICATION, _DUPLICATE, _BACKGROUND], _BOTH)
        self.kinds[rows] = kinds
        aims = np.where(kinds == _LOCALISATION, own.argmax(axis=1), other.argmax(axis=1))
        can_mend = (kinds == _LOCALISATION) | (kinds == _CLASSIFICATION)
        can_mend &= ~self.is_found[objects[aims]]
        self._aims[rows[can_mend]] = objects[aims[can_mend]]


def _average_precision(is_right: NDArray[np.bool_], objects: int) -> float:
    """COCO's mean over 101 recalls; 0 without objects."""
    if not objects or not len(is_right):
        return 0.0
    right = np.cumsum(is_right)
    precision = right / np.arange(1, len(right) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(right / objects, RECALLS, side="left")
    return float(np.append(precision, 0.0)[places].mean())


def _corners(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Boxes xyxy of boxes (x, y, width, height)."""
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def _groups(keys: NDArray[np.int64]) -> dict[int, NDArray[np.intp]]:
    """Rows by key, each group in ascending order."""
    if not len(keys):
        return {}
    order = np.argsort(keys, kind="stable")
    values, starts = np.unique(keys[order], return_index=True)
    return dict(zip(values.tolist(), np.split(order, starts[1:]), strict=True))
