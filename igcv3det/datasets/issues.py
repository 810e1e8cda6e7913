"""What can be wrong in a data set, as records that can be counted and shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final, Literal, NamedTuple

IssueKind = Literal[
    "bad image entry",
    "duplicate image id",
    "duplicate file name",
    "bad image size",
    "missing file",
    "outside folder",
    "unreadable file",
    "unreadable label file",
    "missing label file",
    "unlabelled image",
    "size mismatch",
    "ambiguous orientation",
    "duplicate category name",
    "bad annotation",
    "duplicate annotation id",
    "copied annotation",
    "unknown image",
    "unknown category",
    "bad box",
    "no area",
    "outside",
    "clipped",
    "too small",
]

KEPT: Final[frozenset[IssueKind]] = frozenset(
    {
        "duplicate file name",
        "missing label file",
        "ambiguous orientation",
        "duplicate category name",
        "duplicate annotation id",
        "clipped",
    }
)
"""Issues that drop neither image nor annotation; "clipped" changes a box."""

ENTRY_KINDS: Final[frozenset[IssueKind]] = frozenset(
    {
        "bad image entry",
        "duplicate image id",
        "unreadable label file",
        "bad annotation",
        "copied annotation",
        "unknown image",
        "unknown category",
        "bad box",
    }
)
"""Issues by which a reader drops an entry, for training and evaluation alike."""

NO_IMAGE: Final[frozenset[IssueKind]] = frozenset({"missing file", "unreadable file"})
"""Issues of images that are missing or cannot be read. A reader drops those whose size only the
image has; of the others they are noticed when the image is looked for."""


class AnnotationError(ValueError):
    """Annotations that cannot be used; the message names the file and the field."""


class DatasetIssue(NamedTuple):
    """One thing that is wrong.

    Attributes:
        kind: what is wrong.
        file: the annotation file.
        image_id: the data set's own; None where it has none.
        annotation_id: the data set's own; None for issues of images, or where it has none.
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


def count_kinds(issues: Sequence[DatasetIssue]) -> dict[str, int]:
    """How often each kind occurs, the most frequent first."""
    return dict(Counter(issue.kind for issue in issues).most_common())


def summarize(issues: Sequence[DatasetIssue], file: object, examples: int = 3) -> str:
    """Totals by kind and the first few of at least one issue of a data set, in one line."""
    counts = ", ".join(f"{count} {kind}" for kind, count in count_kinds(issues).items())
    first = "; ".join(f"[{issue}]" for issue in issues[:examples])
    more = "; ..." if len(issues) > examples else ""
    noun = "issue" if len(issues) == 1 else "issues"
    return f"{file}: {len(issues)} {noun} ({counts}): {first}{more}"
