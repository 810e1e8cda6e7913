"""What training learns from an annotation file: the record without what cannot be learned.

A file that cannot be understood is refused. A single image or annotation that is wrong is dropped
(a box that extends beyond the image is clipped) and recorded, or refused too in strict mode. The
file itself is never changed.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from igcv3det.datasets.coco import read_coco
from igcv3det.datasets.image_files import ImageFolder, OutsideFolderError
from igcv3det.datasets.issues import (
    KEPT,
    AnnotationError,
    DatasetIssue,
    IssueKind,
    count_kinds,
    summarize,
)
from igcv3det.datasets.record import NO_ID, AnnotationRecord, ImageTable
from igcv3det.datasets.store import AnnotationStore, build_store
from igcv3det.io.images import ImageReadError
from igcv3det.structures import Categories

logger = logging.getLogger(__name__)

ROUNDING_PX = 1.0
"""A box may extend so far beyond the image without an issue: annotation tools round."""
MIN_SIDE_PX = 1.0
"""Smaller boxes, measured inside the image, are dropped: the box coder takes their logarithm."""


class CheckedAnnotations(NamedTuple):
    """What of an annotation file can be used, and what is wrong with the rest."""

    store: AnnotationStore
    issues: list[DatasetIssue]


def load_annotations(
    annotations: str | Path | AnnotationRecord,
    images: str | Path | None = None,
    strict: bool = False,
    *,
    allow_outside: bool = False,
    need_objects: bool = True,
) -> CheckedAnnotations:
    """Reads and checks an annotation file; logs a summary of its issues.

    Args:
        annotations: COCO JSON, or the record of a file that was read.
        images: folder of the images; if given, images without a file are issues (no file is
            opened).
        strict: refuse the file for any issue.
        allow_outside: file names may lead out of the folder.
        need_objects: refuse a file without a single usable object; False warns.

    Returns:
        The images in the order of the file, with their boxes, and all issues.

    Raises:
        FileNotFoundError: there is no such annotation file.
        AnnotationError: the file cannot be understood, there is no such folder, no image or no
            object is left, or strict mode found issues.
    """
    if isinstance(annotations, (str, Path)):
        annotations = read_coco(annotations)
    checked = check_record(annotations, images, allow_outside=allow_outside)
    if checked.issues:
        summary = summarize(checked.issues, annotations.path)
        if strict:
            raise AnnotationError(f"{summary}; correct the file, or load it without strict")
        logger.warning("%s; check-data lists all", summary)
    require_content(checked, annotations.path, need_objects=need_objects)
    return checked


def check_record(
    record: AnnotationRecord, images: str | Path | None = None, *, allow_outside: bool = False
) -> CheckedAnnotations:
    """Drops images without size or file and boxes that cannot be learned; clips the others.

    Args:
        record: as a reader returns it.
        images: as in `load_annotations`.
        allow_outside: as in `load_annotations`.

    Raises:
        AnnotationError: there is no such folder, or none of the images has a file.
    """
    issues = list(record.issues)
    images_kept: NDArray[np.bool_] = record.images.sizes[:, 0] > 0
    table = record.images
    if images is not None:
        table = _with_files(record, ImageFolder(images, allow_outside), images_kept, issues)
    elif not images_kept.all():
        table = ImageTable.of(table[int(row)] for row in np.flatnonzero(images_kept))
    new_rows = (np.cumsum(images_kept) - 1).astype(np.int32)
    rows = np.flatnonzero(images_kept[record.image_rows])
    boxes, codes = _clip(record.boxes[rows], record.images.sizes[record.image_rows[rows]])
    for index in np.flatnonzero(codes):
        issues.append(_box_issue(record, int(rows[index]), _BOX_KINDS[codes[index]]))
    is_kept = (codes == 0) | (codes == _BOX_KINDS.index("clipped"))
    rows = rows[is_kept]
    scores = record.scores[rows]
    store = build_store(
        record.categories,
        table,
        image_rows=new_rows[record.image_rows[rows]],
        boxes=boxes[is_kept].astype(np.float32),
        labels=record.labels[rows],
        is_crowd=record.is_crowd[rows],
        scores=None if np.isnan(scores).all() else scores,
    )
    return CheckedAnnotations(store, issues)


def require_content(
    checked: CheckedAnnotations, file: str | Path, *, need_objects: bool = True
) -> None:
    """Refuses a data set from which nothing can be learned.

    Args:
        checked: the data set.
        file: to name in the message.
        need_objects: False only warns where there are images without a single object.

    Raises:
        AnnotationError: no image is left, or no object.
    """
    store, issues = checked
    if not len(store):
        raise AnnotationError(f"{file}: images: none is left that can be used")
    if not (~store.is_crowd).any():
        dropped = count_kinds([issue for issue in issues if issue.kind not in KEPT])
        reasons = [f"{len(store.is_crowd)} crowd regions"]
        reasons += [f"{count} {kind}" for kind, count in dropped.items()]
        message = f"{file}: annotations: not a single object is left ({', '.join(reasons)})"
        if need_objects:
            raise AnnotationError(message)
        logger.warning("%s: there is nothing to measure on", message)


def require_same_categories(
    train: Categories, train_file: str | Path, val: Categories, val_file: str | Path
) -> None:
    """Refuses two files whose categories differ in an id or a name.

    Raises:
        AnnotationError: naming the files and the first differences.
    """
    ours = dict(zip(train.ids, train.names, strict=True))
    theirs = dict(zip(val.ids, val.names, strict=True))
    differing = [i for i in sorted(ours | theirs) if ours.get(i) != theirs.get(i)]
    if differing:
        shown = ", ".join(f"{i}: {ours.get(i)!r} and {theirs.get(i)!r}" for i in differing[:5])
        raise AnnotationError(
            f"{train_file} and {val_file}: categories differ in {len(differing)} ids ({shown}); "
            "both must list the same ids and names, whether they occur or not"
        )


def _with_files(
    record: AnnotationRecord,
    folder: ImageFolder,
    is_kept: NDArray[np.bool_],
    issues: list[DatasetIssue],
) -> ImageTable:
    """The kept images by the names of their files; those without one are no longer kept."""
    if not folder.folder.is_dir():
        raise AnnotationError(
            f"{folder.folder}: no such folder; the images of {record.path} should be in it"
        )
    entries = []
    missing: list[DatasetIssue] = []
    for row in np.flatnonzero(is_kept).tolist():
        entry = record.images[row]
        try:
            entries.append(entry._replace(file_name=folder.find(entry.file_name)))
        except ImageReadError as error:
            is_kept[row] = False
            is_outside = isinstance(error, OutsideFolderError)
            kind: IssueKind = "outside folder" if is_outside else "missing file"
            issue = DatasetIssue(
                kind, record.file_of(row), entry.image_id, None, f"file_name: {error}"
            )
            missing.append(issue)
    if missing and not entries:
        raise AnnotationError(
            f"{folder.folder}: has none of the {len(missing)} images of {record.path} "
            f"({missing[0].detail}); is it the right folder?"
        )
    issues += missing
    return ImageTable.of(entries)


_BOX_KINDS: Final[tuple[IssueKind, ...]] = (
    *("bad box", "no area", "outside", "too small", "clipped"),  # the first is never used
)


def _clip(
    boxes: NDArray[np.float64], sizes: NDArray[np.int32]
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Boxes (x, y, width, height) as xyxy inside their images (height, width).

    Returns:
        [N, 4], and [N] what is wrong with each as an index into `_BOX_KINDS`; 0 is nothing.
    """
    low, sides = boxes[:, :2], boxes[:, 2:]
    high, limits = low + sides, sizes[:, ::-1].astype(np.float64)
    inside_low, inside_high = np.maximum(low, 0), np.minimum(high, limits)
    beyond = np.maximum(-low, high - limits)
    conditions = [
        (sides <= 0).any(axis=1),
        ((low >= limits) | (high <= 0)).any(axis=1),
        (inside_high - inside_low < MIN_SIDE_PX).any(axis=1),
        (beyond > ROUNDING_PX).any(axis=1),
    ]
    codes = np.select(conditions, range(1, len(_BOX_KINDS)), 0)
    return np.concatenate([inside_low, inside_high], axis=1), codes


def _box_issue(record: AnnotationRecord, row: int, kind: IssueKind) -> DatasetIssue:
    image_row = int(record.image_rows[row])
    image = record.images[image_row]
    own_id = int(record.annotation_ids[row])
    assert image.size is not None
    height, width = image.size
    position = record.position_text.format(record.positions[row])
    where = "" if own_id != NO_ID else f"{position}: "
    box = ", ".join(f"{value:g}" for value in record.boxes[row])
    detail = f"{where}bbox: [{box}] in an image of {width} x {height}"
    known_id = None if own_id == NO_ID else own_id
    return DatasetIssue(kind, record.file_of(image_row), image.image_id, known_id, detail)
