"""What can be wrong in a data set, as records that can be counted and shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

IssueKind = Literal[
    "bad image entry",
    "duplicate image id",
    "bad image size",
    "missing file",
    "unreadable file",
    "size mismatch",
    "bad annotation",
    "duplicate annotation id",
    "unknown image",
    "unknown category",
    "bad box",
    "no area",
    "outside",
    "clipped",
    "too small",
]


class DatasetIssue(NamedTuple):
    """One thing that is wrong.

    Attributes:
        kind: what is wrong. "clipped" changed a box; "unreadable file" and "size mismatch" come to
            light when an image is decoded; all others mean that image or annotation are dropped.
        file: the annotation file.
        image_id: as written in the file; None where it has none.
        annotation_id: as written in the file; None for faults of images.
        detail: the field and its value.
    """

    kind: IssueKind
    file: str
    image_id: Any
    annotation_id: Any
    detail: str

    def __str__(self) -> str:
        where = [self.file]
        if self.image_id is not None:
            where.append(f"image {self.image_id}")
        if self.annotation_id is not None:
            where.append(f"annotation {self.annotation_id}")
        return f"{', '.join(where)}: {self.kind}: {self.detail}"


def count_kinds(faults: Sequence[DatasetIssue]) -> dict[str, int]:
    """How often each kind occurs, the most frequent first."""
    return dict(Counter(fault.kind for fault in faults).most_common())


def summarize(faults: Sequence[DatasetIssue], examples: int = 3) -> str:
    """Totals by kind and the first few of at least one fault, in one line."""
    counts = ", ".join(f"{count} {kind}" for kind, count in count_kinds(faults).items())
    first = "; ".join(f"[{fault}]" for fault in faults[:examples])
    more = "; ..." if len(faults) > examples else ""
    return f"{faults[0].file}: {len(faults)} faults ({counts}): {first}{more}"
