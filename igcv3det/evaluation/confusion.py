"""The confusion matrix of a detector at a score threshold, with a row and column for background."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from igcv3det.evaluation.coco_matches import NONE, CocoMatches, match_across_classes


def confusion_matrix(matches: CocoMatches, threshold: float) -> NDArray[np.int64]:
    """Counts of objects by their own class and that of the detection which found them.

    The diagonal has COCO's true positives. What is left of detections and objects is matched once
    more without regard to the class; the rest is background. Detections in crowd regions do not
    count. The sum of a column is therefore the number of detections of this class, and that of a
    row the number of objects.

    Args:
        matches: of K classes.
        threshold: detections of at least this score count.

    Returns:
        [K + 1, K + 1], true class by detected class; the last row has detections without an
        object, the last column objects without a detection.
    """
    count = len(matches.category_ids)
    is_taken = (matches.rows.scores >= threshold) & ~matches.is_ignored
    is_found = found_objects(matches, threshold)
    others = match_across_classes(matches, is_taken & (matches.matched == NONE), ~is_found)
    matched = np.where(matches.is_right & is_taken, matches.matched, others)[is_taken]
    detected = matches.class_of(matches.rows.category_ids)[is_taken]
    true = np.full(len(matched), count, dtype=np.intp)
    has_object = matched != NONE
    true[has_object] = matches.class_of_objects(matched[has_object])
    missed = matches.class_of_objects(np.setdiff1d(matches.objects, matched))
    matrix = np.zeros((count + 1, count + 1), dtype=np.int64)
    np.add.at(matrix, (true, detected), 1)
    np.add.at(matrix, (missed, np.full(len(missed), count)), 1)
    return matrix


def found_objects(matches: CocoMatches, threshold: float) -> NDArray[np.bool_]:
    """[G], whether a detection of at least this score and of its class found the object."""
    is_taken = matches.is_right & (matches.rows.scores >= threshold)
    found: NDArray[np.bool_] = np.isin(matches.objects, matches.matched[is_taken])
    return found
