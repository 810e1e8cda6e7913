"""What is odd about a data set as a whole: near-duplicates, leakage, classes, systematic boxes.

Unlike a `DatasetIssue`, a finding drops nothing; it is for the user to judge.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from igcv3det.datasets.box_readings import box_findings
from igcv3det.datasets.near_duplicates import MAX_DISTANCE, HashTable
from igcv3det.datasets.record import AnnotationRecord, ImageTable
from igcv3det.datasets.store import AnnotationStore

IMBALANCE = 10
"""Times as many boxes as another class."""
FEW_BOXES = 20
_SHOWN = 3


@dataclass(frozen=True)
class Finding:
    """One thing.

    Attributes:
        kind: of finding.
        file: the data set, or its annotation file.
        count: images, boxes or classes.
        detail: what they are.
        groups: names of the image files that belong together; empty for other findings.
    """

    kind: str
    file: str
    count: int
    detail: str
    groups: tuple[tuple[str, ...], ...] = ()

    def __str__(self) -> str:
        return f"{self.file}: {self.kind}: {self.count} {self.detail}"


def find_oddities(
    record: AnnotationRecord,
    store: AnnotationStore,
    hashes: HashTable,
    splits: Sequence[str] = (),
) -> list[Finding]:
    """All findings of a data set.

    Args:
        record: as its reader returns it.
        store: what of it can be used, I images.
        hashes: of the I images.
        splits: [I] names of their splits; empty if there is only one.
    """
    file = str(record.path)
    findings = list(_duplicates(store.images, hashes.groups(), splits, file))
    findings += _classes(store, splits, file)
    findings += [
        Finding(found.kind, file, found.count, f"boxes: {found.detail}")
        for found in box_findings(record)
    ]
    return findings


def _duplicates(
    images: ImageTable,
    duplicates: Sequence[list[int]],
    splits: Sequence[str],
    file: str,
) -> Iterator[Finding]:
    within: list[list[int]] = []
    across: list[list[int]] = []
    for members in duplicates:
        other = [row for row in members if splits and splits[row] != splits[members[0]]]
        if other:  # shown as the second
            across.append([members[0], other[0], *(m for m in members[1:] if m != other[0])])
        elif len({images[row].file_name for row in members}) > 1:
            within.append(members)  # one file that is listed twice is an issue of the file
    for kind, groups in (
        ("near-duplicates in different splits", across),
        ("near-duplicates", within),
    ):
        if not groups:
            continue
        names = [
            tuple(f"{images[row].file_name}{_of(splits, row)}" for row in group) for group in groups
        ]
        shown = "; ".join(_pair(group) for group in names[:_SHOWN])
        more = "; ..." if len(names) > _SHOWN else ""
        detail = (
            f"images in {_numbered(len(names), 'group')} (at most {MAX_DISTANCE} of 256 bits of "
            f"their hashes differ): {shown}{more}"
        )
        yield Finding(kind, file, sum(map(len, names)), detail, tuple(names))


def _of(splits: Sequence[str], row: int) -> str:
    return f" ({splits[row]})" if splits else ""


def _pair(names: Sequence[str]) -> str:
    more = f" and {len(names) - 2} more" if len(names) > 2 else ""
    return f"{names[0]} = {names[1]}{more}"


def _classes(store: AnnotationStore, splits: Sequence[str], file: str) -> Iterator[Finding]:
    is_object = ~store.is_crowd
    labels = store.labels[is_object].astype(np.int64)
    names = store.categories.names
    counts = np.bincount(labels, minlength=len(names) + 1)[1:]
    present = np.flatnonzero(counts)
    if len(present) > 1:
        most, least = (int(present[pick(counts[present])]) for pick in (np.argmax, np.argmin))
        rare = present[counts[present] * IMBALANCE <= counts[most]]
        if len(rare):
            times = counts[most] / counts[least]
            detail = (
                f"of {len(names)} classes with at most 1/{IMBALANCE} of the boxes of "
                f"{names[most]!r} ({counts[most]}); the rarest is {names[least]!r} "
                f"({counts[least]}, 1/{times:.0f})"
            )
            yield Finding("class imbalance", file, len(rare), detail)
    few = [index for index in present.tolist() if counts[index] < FEW_BOXES]
    if few:
        shown = _listed([names[i] for i in few])
        detail = f"of {len(names)} classes with fewer than {FEW_BOXES} boxes: {shown}"
        yield Finding("few boxes", file, len(few), detail)
    rows = np.repeat(np.arange(len(store)), np.diff(store.starts))[is_object]
    own = np.array(splits)[rows] if splits else np.array([])
    for split in dict.fromkeys(splits):
        seen = np.bincount(labels[own == split], minlength=len(names) + 1)[1:]
        absent = [names[index] for index in present.tolist() if not seen[index]]
        if absent and seen.any():
            shown = _listed(absent)
            detail = f"of {len(names)} classes with boxes in other splits only: {shown}"
            yield Finding(f"classes missing in {split}", file, len(absent), detail)


def _numbered(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:5])) + (", ..." if len(names) > 5 else "")
