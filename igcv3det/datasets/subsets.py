"""Records made of records: some of the images, other classes, several records as one."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from igcv3det.datasets.issues import AnnotationError
from igcv3det.datasets.record import (
    NO_ID,
    AnnotationRecord,
    ImageEntry,
    ImageTable,
    TextCollector,
    Texts,
)
from igcv3det.structures import Categories

_COLUMNS = (
    *("image_rows", "labels", "boxes", "areas", "is_crowd", "scores"),
    *("annotation_ids", "positions"),
)


class SplitRecord(NamedTuple):
    """A record and the folder that its file names start from."""

    record: AnnotationRecord
    images: Path


def with_images(record: AnnotationRecord, is_kept: NDArray[np.bool_]) -> AnnotationRecord:
    """The record with some of its images and their annotations; issues stay with their image.

    Args:
        record: of I images.
        is_kept: [I].
    """
    rows = np.flatnonzero(is_kept)
    new_rows = (np.cumsum(is_kept) - 1).astype(np.int32)
    is_used = is_kept[record.image_rows]
    columns = {name: getattr(record, name)[is_used] for name in _COLUMNS}
    columns["image_rows"] = new_rows[columns["image_rows"]]
    left_out = set(record.images.ids[~is_kept].tolist())
    files = record.label_files
    return dataclasses.replace(
        record,
        **columns,
        images=ImageTable.of(record.images[row] for row in rows.tolist()),
        label_files=Texts.of(files[row] for row in rows.tolist()) if len(files) else files,
        issues=tuple(issue for issue in record.issues if issue.image_id not in left_out),
    )


def with_annotations(record: AnnotationRecord, is_kept: NDArray[np.bool_]) -> AnnotationRecord:
    """The record with all of its images and some of its annotations.

    Args:
        record: of N annotations.
        is_kept: [N].
    """
    columns = {name: getattr(record, name)[is_kept] for name in _COLUMNS}
    return dataclasses.replace(record, **columns)


def with_categories(record: AnnotationRecord, categories: Categories) -> AnnotationRecord:
    """The record with other classes, matched by name.

    Classes that the record has are matched by id too: two of them may have one name.

    Raises:
        AnnotationError: a class that has annotations is not among ``categories``.
    """
    if record.categories == categories:
        return record
    own, other = record.categories, categories
    own_keys: list[Any] = list(zip(own.ids, own.names, strict=True))
    keys: list[Any] = list(zip(other.ids, other.names, strict=True))
    if not set(keys) <= set(own_keys):
        own_keys, keys = list(own.names), list(other.names)
    label_of = {key: label for label, key in enumerate(keys, start=1)}
    labels = np.array([0, *(label_of.get(key, 0) for key in own_keys)], np.int16)
    new = labels[record.labels]
    if (new == 0).any():
        label = int(record.labels[np.flatnonzero(new == 0)[0]])
        name = record.categories.names[label - 1]
        raise AnnotationError(f"{record.path}: class {name!r} is not among the data's classes")
    return dataclasses.replace(record, categories=categories, labels=new)


def used_categories(records: Sequence[AnnotationRecord]) -> Categories:
    """The classes of these records that have a box in one of them; all have the same classes."""
    (first, *_) = records
    kept = np.unique(np.concatenate([record.labels for record in records])).tolist()
    ids, names = first.categories.ids, first.categories.names
    return Categories(
        tuple(ids[label - 1] for label in kept), tuple(names[label - 1] for label in kept)
    )


def empty_classes(record: AnnotationRecord, used: Categories) -> list[str]:
    """Names of the record's classes that are not among the used ones, by id."""
    pairs = zip(record.categories.ids, record.categories.names, strict=True)
    return [name for number, name in pairs if number not in used.ids]


def joined(path: Path, parts: Sequence[SplitRecord]) -> SplitRecord:
    """Several records of the same classes as one; images are numbered anew.

    Args:
        path: for messages.
        parts: at least one; a single one stays as it is.
    """
    if len(parts) == 1:
        return parts[0]
    root = Path(os.path.commonpath([part.images.absolute() for part in parts]))
    entries: list[ImageEntry] = []
    files = TextCollector()
    for record, folder in parts:
        below = os.path.relpath(folder.absolute(), root)
        for row, entry in enumerate(record.images):
            name = os.path.normpath(Path(below) / entry.file_name)
            entries.append(entry._replace(image_id=len(entries) + 1, file_name=name))
            files.append(record.file_of(row))
    records = [part.record for part in parts]
    starts = np.cumsum([0, *(len(record.images) for record in records)])
    columns = {
        name: np.concatenate([getattr(record, name) for record in records]) for name in _COLUMNS
    }
    columns["image_rows"] = np.concatenate(
        [r.image_rows + np.int32(start) for r, start in zip(records, starts[:-1], strict=True)]
    )
    columns["annotation_ids"] = np.full(len(columns["labels"]), NO_ID)
    record = AnnotationRecord(
        path=path,
        categories=records[0].categories,
        images=ImageTable.of(entries),
        **columns,
        issues=tuple(issue for record in records for issue in record.issues),
        label_files=files.build(),
        position_text=records[0].position_text,
    )
    return SplitRecord(record, root)
