"""What an evaluation says beyond COCO's figures: where the errors are, and which threshold to take.

All of it starts from the matching of COCO's own evaluation at IoU 0.50 (`coco_matches`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from igcv3det.datasets.record import AnnotationRecord
from igcv3det.evaluation.coco_matches import MATCH_IOU, RECALLS, CocoMatches, match_rows
from igcv3det.evaluation.confusion import confusion_matrix, found_objects
from igcv3det.evaluation.curves import ClassCurves, class_curves
from igcv3det.evaluation.error_types import ErrorTypes, error_types
from igcv3det.evaluation.rows import DetectionRows

DEFAULT_THRESHOLD = 0.3
"""Where no detection is right, as of predict."""


@dataclass(frozen=True)
class ImageErrors:
    """The errors in one image at the score threshold.

    Attributes:
        image_id: the data set's own.
        false_positives: detections without an object of their class.
        missed: objects without a detection of their class.
    """

    image_id: int
    false_positives: int
    missed: int


@dataclass(frozen=True)
class Analysis:
    """Curves, confusion matrix, types of errors and the worst images.

    Attributes:
        matches: what all of it was counted from.
        classes: [K].
        overall: all classes together.
        threshold: the score with the highest F1 of all classes together; confusion matrix and
            images are counted there.
        confusion: [K + 1, K + 1], see `confusion_matrix`.
        errors: TIDE's types.
        images: with errors, the most errors first.
    """

    matches: CocoMatches
    classes: list[ClassCurves]
    overall: ClassCurves
    threshold: float
    confusion: NDArray[np.int64]
    errors: ErrorTypes
    images: list[ImageErrors]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; None where a figure is not defined."""
        value: dict[str, Any] = _plain(
            {
                "iou_threshold": MATCH_IOU,
                "score_threshold": self.threshold,
                "images": len(self.matches.image_ids),
                "recalls": RECALLS,
                "thresholds": self.overall.thresholds,
                "all": _curve_values(self.overall),
                "classes": [_curve_values(curves) for curves in self.classes],
                "confusion": {
                    "rows": "true class, the last: no object",
                    "columns": "detected class, the last: not detected",
                    "names": [*(curves.name for curves in self.classes), "background"],
                    "counts": self.confusion,
                },
                "error_types": asdict(self.errors),
                "images_with_errors": [
                    asdict(image) | {"file": self.file_name(image.image_id)}
                    for image in self.images
                ],
            }
        )
        return value

    def file_name(self, image_id: int) -> str:
        """Of an image."""
        images = self.matches.truth.images
        return images[int(np.flatnonzero(images.ids == image_id)[0])].file_name


def analyse(
    rows: DetectionRows,
    truth: AnnotationRecord,
    image_ids: Sequence[int],
    category_ids: Sequence[int],
) -> Analysis:
    """Counts the errors of some detections.

    Args:
        rows: detections in any images.
        truth: the annotations.
        image_ids: of the images that count, with detections or without.
        category_ids: of the classes that count.
    """
    matches = match_rows(rows, truth, image_ids, category_ids)
    classes, overall = class_curves(matches)
    threshold = overall.best.threshold if overall.best else DEFAULT_THRESHOLD
    return Analysis(
        matches=matches,
        classes=classes,
        overall=overall,
        threshold=threshold,
        confusion=confusion_matrix(matches, threshold),
        errors=error_types(matches),
        images=_image_errors(matches, threshold),
    )


def _image_errors(matches: CocoMatches, threshold: float) -> list[ImageErrors]:
    """Images with errors, the most first, else in the order of their ids."""
    is_wrong = matches.is_wrong & (matches.rows.scores >= threshold)
    missed_rows = matches.objects[~found_objects(matches, threshold)]
    missed_ids = matches.truth.images.ids[matches.truth.image_rows[missed_rows]]
    false_positives, missed = (
        dict(zip(*(part.tolist() for part in np.unique(ids, return_counts=True)), strict=True))
        for ids in (matches.rows.image_ids[is_wrong], missed_ids)
    )
    images = [
        ImageErrors(number, false_positives.get(number, 0), missed.get(number, 0))
        for number in sorted(false_positives | missed)
    ]
    return sorted(images, key=lambda image: -(image.false_positives + image.missed))


def _curve_values(curves: ClassCurves) -> dict[str, Any]:
    return {
        "name": curves.name,
        "category_id": curves.category_id,
        "objects": curves.objects,
        "detections": curves.detections,
        "AP50": curves.ap50,
        "best": asdict(curves.best) if curves.best else None,
        "precision": curves.precision,
        "precision_at": curves.precision_at,
        "recall_at": curves.recall_at,
        "f1_at": curves.f1_at,
    }


def _plain(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and math.isnan(value) else value
