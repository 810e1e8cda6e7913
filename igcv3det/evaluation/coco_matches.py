"""Which detection COCO's evaluation gives to which object, at IoU 0.50.

The figures beyond COCO's twelve (curves, confusion matrix, types of errors) all start from this
matching, so that they agree with AP50.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from igcv3det.datasets.record import AnnotationRecord
from igcv3det.datasets.subsets import with_annotations
from igcv3det.evaluation.coco_scoring import coco_evaluation
from igcv3det.evaluation.rows import DetectionRows

MATCH_IOU = 0.5
DETECTIONS_PER_CLASS = 100
"""Of an image; COCO counts those with the highest scores."""
RECALLS = np.linspace(0, 1, 101)
"""At which COCO reads the precision."""
NONE = -1


@dataclass(frozen=True)
class CocoMatches:
    """D detections and G objects of some images and K classes.

    Attributes:
        truth: the annotations.
        image_ids: of the images, ascending.
        category_ids: [K] of the classes, ascending.
        rows: the D detections that count, the highest score first; of equal scores in COCO's order.
        matched: [D] row in ``truth`` of the object or crowd region that was found; `NONE` if there
            is none.
        is_ignored: [D], whether that is a crowd region: neither right nor wrong.
        objects: [G] rows in ``truth``, without crowd regions.
        precision: [101, K] at recall 0, 0.01, ... 1 as in COCO's AP50; NaN without objects.
        scores: [101, K] from which these recalls are reached; 0 where they are not.
    """

    truth: AnnotationRecord
    image_ids: tuple[int, ...]
    category_ids: tuple[int, ...]
    rows: DetectionRows
    matched: NDArray[np.int64]
    is_ignored: NDArray[np.bool_]
    objects: NDArray[np.int64]
    precision: NDArray[np.float64]
    scores: NDArray[np.float64]

    @property
    def is_right(self) -> NDArray[np.bool_]:
        """[D] true positives."""
        right: NDArray[np.bool_] = (self.matched != NONE) & ~self.is_ignored
        return right

    @property
    def is_wrong(self) -> NDArray[np.bool_]:
        """[D] false positives."""
        wrong: NDArray[np.bool_] = (self.matched == NONE) & ~self.is_ignored
        return wrong

    @property
    def class_names(self) -> list[str]:
        """[K], each once: a name that two classes share is followed by the id."""
        categories = self.truth.categories
        names = [categories.names[categories.ids.index(number)] for number in self.category_ids]
        return [
            name if names.count(name) == 1 else f"{name} ({number})"
            for name, number in zip(names, self.category_ids, strict=True)
        ]

    def class_of(self, category_ids: NDArray[np.int64]) -> NDArray[np.intp]:
        """Index among the K classes of each of some category ids."""
        return np.searchsorted(np.array(self.category_ids, dtype=np.int64), category_ids)

    def class_of_objects(self, objects: NDArray[np.int64]) -> NDArray[np.intp]:
        """Index among the K classes of some rows of ``truth``."""
        ids = np.array(self.truth.categories.ids, dtype=np.int64)
        return self.class_of(ids[self.truth.labels[objects] - 1])


def match_rows(
    rows: DetectionRows,
    truth: AnnotationRecord,
    image_ids: Sequence[int],
    category_ids: Sequence[int],
) -> CocoMatches:
    """COCO's matching of detections with objects of the same class.

    Args:
        rows: detections in any images.
        truth: the annotations.
        image_ids: of the images that count.
        category_ids: of the classes that count.
    """
    image_ids, category_ids = sorted(set(image_ids)), sorted(set(category_ids))
    evaluation = _evaluated(rows, truth, image_ids, category_ids, DETECTIONS_PER_CLASS)
    found, matched, is_ignored = _pairs(evaluation.evalImgs)
    order = np.argsort(-rows.scores[found], kind="stable")
    in_classes = np.isin(np.array(truth.categories.ids)[truth.labels - 1], category_ids)
    in_images = np.isin(truth.images.ids, image_ids)[truth.image_rows]
    precision = evaluation.eval["precision"][0, :, :, 0, 0]
    return CocoMatches(
        truth=truth,
        image_ids=tuple(image_ids),
        category_ids=tuple(category_ids),
        rows=rows[found[order]],
        matched=matched[order],
        is_ignored=is_ignored[order],
        objects=np.flatnonzero(in_classes & in_images & ~truth.is_crowd),
        precision=np.where(precision < 0, np.nan, precision),
        scores=np.maximum(evaluation.eval["scores"][0, :, :, 0, 0], 0),
    )


def match_across_classes(
    matches: CocoMatches, is_detection: NDArray[np.bool_], is_object: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """COCO's matching of some detections with some objects, whatever their classes.

    Args:
        matches: of D detections and G objects.
        is_detection: [D] those to match.
        is_object: [G] those to match.

    Returns:
        [D] row in the annotations of the object found; `NONE` for the others.
    """
    chosen = np.zeros(len(matches.truth), dtype=np.bool_)
    chosen[matches.objects[is_object]] = True
    rows = matches.rows[is_detection]
    evaluation = _evaluated(
        rows,
        with_annotations(matches.truth, chosen),
        matches.image_ids,
        matches.category_ids,
        max(1, len(rows)),
        by_class=False,
    )
    found, matched, _ = _pairs(evaluation.evalImgs)
    result = np.full(len(matches.rows), NONE, dtype=np.int64)
    objects = np.append(np.flatnonzero(chosen), NONE)  # so that NONE stays NONE
    result[np.flatnonzero(is_detection)[found]] = objects[matched]
    return result


def _evaluated(
    rows: DetectionRows,
    truth: AnnotationRecord,
    image_ids: Sequence[int],
    category_ids: Sequence[int],
    per_class: int,
    *,
    by_class: bool = True,
) -> Any:  # noqa: ANN401
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = coco_evaluation(rows, truth, image_ids, category_ids)
        params = evaluation.params
        params.iouThrs, params.maxDets = np.array([MATCH_IOU]), [per_class]
        params.areaRng, params.areaRngLbl = params.areaRng[:1], params.areaRngLbl[:1]
        params.useCats = int(by_class)
        evaluation.evaluate()
        if by_class:
            evaluation.accumulate()
    return evaluation


def _pairs(
    entries: Sequence[Any],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Rows of the detections, of what each found (or `NONE`), and whether that is a crowd."""
    entries = [entry for entry in entries if entry is not None]
    empty = np.zeros(0, dtype=np.int64)
    found = [np.array(entry["dtIds"], dtype=np.int64) - 1 for entry in entries]
    matched = [entry["dtMatches"][0].astype(np.int64) - 1 for entry in entries]
    ignored = [np.asarray(entry["dtIgnore"][0], dtype=np.bool_) for entry in entries]
    return (
        np.concatenate([empty, *found]),
        np.concatenate([empty, *matched]),
        np.concatenate([empty.astype(np.bool_), *ignored]),
    )
