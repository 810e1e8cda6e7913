"""Counts of a data set, and how well a detector's anchors fit its boxes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from igcv3det.datasets.issues import DatasetIssue, count_kinds
from igcv3det.datasets.store import AnnotationStore
from igcv3det.detection.iou import box_iou
from igcv3det.structures import Categories

SMALL_AREA, MEDIUM_AREA = 32.0**2, 96.0**2
"""COCO's bounds between small, medium and large, px² of the original image."""
COVERED_IOU = 0.5
"""IoU with an anchor from which a box is covered: SSD's matching threshold."""
_CHUNK = 4096


@dataclass(frozen=True)
class ClassReport:
    """One class.

    Attributes:
        category_id: the data set's own.
        name: of the class.
        boxes: without crowds.
        images: that show it.
        coverage: share of the boxes that an anchor covers; None if there are no boxes.
    """

    category_id: int
    name: str
    boxes: int
    images: int
    coverage: float | None


@dataclass(frozen=True)
class DataReport:
    """A data set after its check.

    Attributes:
        images: that can be used.
        images_without_objects: of these.
        boxes: that can be used, without crowds.
        crowds: regions.
        small: boxes under 32² px.
        medium: boxes from 32² to 96² px.
        large: boxes over 96² px.
        coverage: share of the boxes that an anchor covers; None if there are no boxes.
        classes: in label order.
        issue_counts: kind to number.
        issues: all of them.
    """

    images: int
    images_without_objects: int
    boxes: int
    crowds: int
    small: int
    medium: int
    large: int
    coverage: float | None
    classes: tuple[ClassReport, ...]
    issue_counts: dict[str, int]
    issues: tuple[DatasetIssue, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        values = dataclasses.asdict(self)
        return values | {"issues": [issue._asdict() for issue in self.issues]}


def build_report(
    store: AnnotationStore, issues: Sequence[DatasetIssue], anchors: Tensor, image_size: int
) -> DataReport:
    """Counts, sizes and anchor coverage.

    Args:
        store: the annotations that can be used.
        issues: of the data set.
        anchors: [A, 4] xyxy, pixels of the network input.
        image_size: side of that input, pixels; boxes are stretched to it as images are.
    """
    is_object = ~store.is_crowd
    image_rows = np.repeat(np.arange(len(store)), np.diff(store.starts))[is_object]
    boxes, labels = store.boxes[is_object], store.labels[is_object]
    sides = boxes[:, 2:] - boxes[:, :2]
    areas = sides[:, 0] * sides[:, 1]
    scales = np.float32(image_size) / store.images.sizes[image_rows][:, [1, 0, 1, 0]]
    covered = best_ious(boxes * scales.astype(np.float32), anchors) >= COVERED_IOU
    small, large = int((areas < SMALL_AREA).sum()), int((areas > MEDIUM_AREA).sum())
    return DataReport(
        images=len(store),
        images_without_objects=len(store) - len(np.unique(image_rows)),
        boxes=len(boxes),
        crowds=int(store.is_crowd.sum()),
        small=small,
        medium=len(boxes) - small - large,
        large=large,
        coverage=_share(covered),
        classes=tuple(
            _class_report(
                store.categories, label, image_rows[labels == label], covered[labels == label]
            )
            for label in range(1, len(store.categories) + 1)
        ),
        issue_counts=count_kinds(issues),
        issues=tuple(issues),
    )


def report_lines(report: DataReport) -> Iterator[str]:
    """The report as text, a line at a time; issues only by their totals."""
    yield f"images            {report.images} ({report.images_without_objects} without objects)"
    yield f"boxes             {report.boxes}, and {report.crowds} crowd regions"
    yield f"sizes             {report.small} small, {report.medium} medium, {report.large} large"
    yield f"anchor coverage   {_percent(report.coverage)} of the boxes (IoU >= {COVERED_IOU})"
    width = max((len(item.name) for item in report.classes), default=0)
    yield f"{'id':>6}  {'class':<{width}}  {'boxes':>7}  {'images':>7}  {'coverage':>8}"
    for item in report.classes:
        yield (
            f"{item.category_id:>6}  {item.name:<{width}}  {item.boxes:>7}  {item.images:>7}  "
            f"{_percent(item.coverage):>8}"
        )
    yield f"issues            {len(report.issues)}"
    for kind, count in report.issue_counts.items():
        yield f"{count:>6}  {kind}"


def _class_report(
    categories: Categories,
    label: int,
    image_rows: NDArray[np.intp],
    covered: NDArray[np.bool_],
) -> ClassReport:
    return ClassReport(
        categories.ids[label - 1],
        categories.names[label - 1],
        boxes=len(covered),
        images=len(np.unique(image_rows)),
        coverage=_share(covered),
    )


def best_ious(boxes: NDArray[np.float32], anchors: Tensor) -> NDArray[np.float32]:
    """[N] the largest IoU of each box with any anchor."""
    chunks = torch.split(torch.from_numpy(boxes), _CHUNK) if len(boxes) else ()
    best = [box_iou(chunk, anchors).max(dim=1).values.numpy() for chunk in chunks]
    return np.concatenate([np.zeros(0, dtype=np.float32), *best])


def _share(is_covered: NDArray[np.bool_]) -> float | None:
    return float(is_covered.mean()) if len(is_covered) else None


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"
