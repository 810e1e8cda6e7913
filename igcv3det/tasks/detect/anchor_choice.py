"""Whether anchors fitted to a data set cover its boxes better than the detector's own."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from igcv3det.config import DetectorConfig
from igcv3det.datasets.report import COVERED_IOU, best_ious
from igcv3det.datasets.store import AnnotationStore
from igcv3det.detection.anchor_fit import Shapes, fit_shapes
from igcv3det.detection.anchors import cell_shapes, generate_anchors

BOUNDS = (1.5, 2.0)
"""Largest changes of a side that are tried, as factors."""
MIN_GAIN = 0.02
"""Fitted anchors are taken if the coverage, mean over the classes, rises by this much ..."""
MAX_LOSS = 0.02
"""... and falls by no more than this for any class with at least ``MIN_BOXES`` boxes."""
MIN_BOXES = 30

FeatureSizes = list[tuple[int, int]]


class AnchorChoice(NamedTuple):
    """The anchors to train with.

    Attributes:
        shapes: fitted ones; None keeps the detector's own.
        before: coverage by the detector's own, mean over the classes, in 0..1.
        after: by the chosen ones.
    """

    shapes: Shapes | None
    before: float
    after: float


def choose_anchors(
    store: AnnotationStore, config: DetectorConfig, feature_sizes: FeatureSizes
) -> AnchorChoice:
    """Fits anchors and compares the coverage of the training boxes.

    Args:
        store: the training data.
        config: the detector.
        feature_sizes: (height, width) in cells of its maps.
    """
    boxes, labels = _shares(store)
    sides = boxes[:, 2:] - boxes[:, :2]
    counts = np.bincount(labels)
    own = cell_shapes(config.anchors, len(feature_sizes))

    def coverage(shapes: Shapes | None) -> NDArray[np.float64]:
        return _coverage(boxes, labels, config, shapes, feature_sizes)

    before = coverage(None)
    best = AnchorChoice(None, float(before.mean()), float(before.mean()))
    for bound in BOUNDS:
        shapes = fit_shapes(sides, 1 / np.sqrt(counts[labels]), own, bound)
        after = coverage(shapes)
        is_large = counts[np.unique(labels)] >= MIN_BOXES
        loss = (before - after)[is_large].max(initial=0.0)
        gains = after.mean() >= best.before + MIN_GAIN and loss <= MAX_LOSS
        if gains and after.mean() > best.after:
            best = AnchorChoice(shapes, best.before, float(after.mean()))
    return best


def _shares(store: AnnotationStore) -> tuple[NDArray[np.float64], NDArray[np.int16]]:
    """Boxes as shares of their images, xyxy, and labels; without crowds."""
    rows = np.repeat(np.arange(len(store)), np.diff(store.starts))
    sizes = store.images.sizes[rows][:, [1, 0, 1, 0]]
    is_object = ~store.is_crowd
    return (store.boxes / sizes)[is_object], store.labels[is_object]


def _coverage(
    boxes: NDArray[np.float64],
    labels: NDArray[np.int16],
    config: DetectorConfig,
    shapes: Shapes | None,
    feature_sizes: FeatureSizes,
) -> NDArray[np.float64]:
    """Share of the boxes of each class that occurs which an anchor covers."""
    anchors = config.anchors
    if shapes is not None:
        as_tuples = tuple(tuple(level) for level in shapes)
        anchors = dataclasses.replace(anchors, shapes=as_tuples)
    placed = generate_anchors(anchors, 1, feature_sizes)
    covered = best_ious(boxes.astype(np.float32), placed) >= COVERED_IOU
    return np.array([covered[labels == label].mean() for label in np.unique(labels)])
