"""Annotations that a file has twice under one id."""

from __future__ import annotations

import dataclasses

import numpy as np

from igcv3det.datasets.issues import DatasetIssue, IssueKind
from igcv3det.datasets.record import NO_ID, AnnotationRecord


def without_copies(record: AnnotationRecord) -> AnnotationRecord:
    """Drops copies of an annotation under the same id; other annotations of one id are kept."""
    if (record.annotation_ids == NO_ID).all():
        return record
    _, firsts, inverse = np.unique(record.annotation_ids, return_index=True, return_inverse=True)
    earlier = firsts[inverse.reshape(-1)]
    is_repeated = (earlier != np.arange(len(record))) & (record.annotation_ids != NO_ID)
    if not is_repeated.any():
        return record
    columns = (record.image_rows, record.labels, record.is_crowd, record.boxes)
    is_copy = is_repeated & np.all(
        [(column == column[earlier]).reshape(len(record), -1).all(axis=1) for column in columns],
        axis=0,
    )
    issues = list(record.issues)
    for row in np.flatnonzero(is_repeated):
        kind: IssueKind = "copied annotation" if is_copy[row] else "duplicate annotation id"
        first = f"id: {record.position_text.format(record.positions[earlier[row]])} has it"
        detail = f"{first} and is the same" if is_copy[row] else f"{first}; both are kept"
        image_id = int(record.images.ids[record.image_rows[row]])
        own_id = int(record.annotation_ids[row])
        issues.append(DatasetIssue(kind, str(record.path), image_id, own_id, detail))
    arrays = {
        name: getattr(record, name)[~is_copy]
        for name in ("image_rows", "labels", "boxes", "areas", "is_crowd", "scores")
    }
    ids, positions = record.annotation_ids[~is_copy], record.positions[~is_copy]
    return dataclasses.replace(
        record, **arrays, annotation_ids=ids, positions=positions, issues=tuple(issues)
    )
