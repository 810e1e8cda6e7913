"""Precision, recall and F1 of each class: over the recall, and over the score threshold."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from igcv3det.evaluation.coco_matches import RECALLS, CocoMatches

POINTS = 101


@dataclass(frozen=True)
class OperatingPoint:
    """A score threshold and what the detections with at least this score are worth."""

    threshold: float
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class ClassCurves:
    """One class, or all together.

    Attributes:
        name: of the class.
        category_id: None for all together.
        objects: without crowd regions.
        detections: without those in crowd regions.
        ap50: COCO's AP at IoU 0.50; NaN without objects.
        precision: [101] at the recalls `RECALLS`, whose mean is ``ap50``.
        thresholds: [P] scores, ascending.
        precision_at: [P] of the detections with at least these scores; NaN where there is none.
        recall_at: [P]; NaN without objects.
        f1_at: [P]; NaN without objects.
        best: the threshold with the highest F1, and of several the highest; None if no object is
            found.
    """

    name: str
    category_id: int | None
    objects: int
    detections: int
    ap50: float
    precision: NDArray[np.float64]
    thresholds: NDArray[np.float64]
    precision_at: NDArray[np.float64]
    recall_at: NDArray[np.float64]
    f1_at: NDArray[np.float64]
    best: OperatingPoint | None


def class_curves(matches: CocoMatches) -> tuple[list[ClassCurves], ClassCurves]:
    """Curves of each class, and of all together.

    "All together" has the mean of the classes' precision over the recall, as COCO's AP50, and
    counts all detections alike in its figures over the threshold.
    """
    counted = ~matches.is_ignored
    scores, is_right = matches.rows.scores[counted], matches.is_right[counted]
    classes = matches.class_of(matches.rows.category_ids)[counted]
    count = len(matches.category_ids)
    objects = np.bincount(matches.class_of_objects(matches.objects), minlength=count).tolist()
    thresholds = _thresholds(scores)
    each = [
        _curves(
            name,
            category_id,
            matches.precision[:, index],
            objects[index],
            scores[classes == index],
            is_right[classes == index],
            thresholds,
        )
        for index, (name, category_id) in enumerate(
            zip(matches.class_names, matches.category_ids, strict=True)
        )
    ]
    with_objects = ~np.isnan(matches.precision).any(axis=0)
    mean = matches.precision[:, with_objects]
    overall = mean.mean(axis=1) if mean.size else np.full(len(RECALLS), np.nan)
    total = _curves("all", None, overall, sum(objects), scores, is_right, thresholds)
    return each, total


def _thresholds(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """0 to 1, or as far as the scores of a results file go beyond."""
    low = min(0.0, float(scores.min(initial=0.0)))
    high = max(1.0, float(scores.max(initial=1.0)))
    return np.linspace(low, high, POINTS)


def _curves(
    name: str,
    category_id: int | None,
    precision: NDArray[np.float64],
    objects: int,
    scores: NDArray[np.float64],
    is_right: NDArray[np.bool_],
    thresholds: NDArray[np.float64],
) -> ClassCurves:
    """The figures from detections in descending order of their scores."""
    right = np.concatenate([[0], np.cumsum(is_right)])
    taken = np.searchsorted(-scores, -thresholds, side="right")
    with np.errstate(invalid="ignore", divide="ignore"):
        precision_at = right[taken] / taken
        recall_at = right[taken] / objects if objects else np.full(POINTS, np.nan)
        f1_at = 2 * right[taken] / (taken + objects) if objects else np.full(POINTS, np.nan)
    return ClassCurves(
        name=name,
        category_id=category_id,
        objects=objects,
        detections=len(scores),
        ap50=float(precision.mean()) if objects else math.nan,
        precision=precision,
        thresholds=thresholds,
        precision_at=precision_at,
        recall_at=recall_at,
        f1_at=f1_at,
        best=_best(scores, right[1:], objects),
    )


def _best(
    scores: NDArray[np.float64], right: NDArray[np.int64], objects: int
) -> OperatingPoint | None:
    if not len(scores) or not right[-1]:
        return None
    taken = np.arange(1, len(scores) + 1)
    f1 = 2 * right / (taken + objects)
    # no threshold divides detections of equal scores
    f1[:-1][scores[:-1] == scores[1:]] = 0
    index = int(f1.argmax())
    return OperatingPoint(
        threshold=float(scores[index]),
        precision=float(right[index] / taken[index]),
        recall=float(right[index] / objects),
        f1=float(f1[index]),
    )
