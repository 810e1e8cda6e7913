"""Whether anchors fitted to a data set cover its boxes better than the detector's own."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from igcv3det.config import DetectorConfig
from igcv3det.datasets.report import COVERED_IOU, best_ious
from igcv3det.datasets.store import AnnotationStore
from igcv3det.detection.anchor_fit import Shapes, fit_shapes
from igcv3det.detection.anchors import cell_shapes, generate_anchors
from igcv3det.detector import build_detector

BOUNDS = (1.5, 2.0)
"""Largest changes of a side that are tried, as factors."""
MIN_GAIN = 0.05
"""Fitted anchors are taken if the coverage, mean over the classes, rises by this much (less did not
raise the AP: docs/fine_tuning.md) ..."""
MAX_LOSS = 0.02
"""... and falls by no more than this for any class with at least ``MIN_BOXES`` boxes."""
MIN_BOXES = 30
COVERED_WELL, STRIDE8_GAIN = 0.9, 0.1
"""Where less of the boxes is covered, a map of stride 8 is named if it covers so much more."""
SHAPES, STRIDE8 = "model.detector.anchors.shapes", "model.detector.anchors.stride8_scale"
MAX_BOXES = 20_000
"""Of larger data sets so many boxes are looked at."""

FeatureSizes = list[tuple[int, int]]


class AnchorChoice(NamedTuple):
    """The anchors to train with.

    Attributes:
        shapes: fitted ones; None keeps the detector's own.
        before: coverage by the detector's own, mean over the classes, in 0..1.
        after: by the best of the fitted ones, whether they are taken or not.
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
    boxes, labels = _sample(*_shares(store))
    # shapes are shares of the size that the weights were trained at
    sides = (boxes[:, 2:] - boxes[:, :2]) * (config.image_size / config.trained_size)
    counts = np.bincount(labels)
    own = cell_shapes(config.anchors, len(feature_sizes))

    def covered(shapes: Shapes | None) -> NDArray[np.bool_]:
        return _covered(boxes, config, shapes, feature_sizes)

    is_covered = covered(None)
    before = _by_class(is_covered, labels)
    best = AnchorChoice(None, float(before.mean()), float(before.mean()))
    is_large = counts[np.unique(labels)] >= MIN_BOXES
    for bound in BOUNDS:
        shapes = fit_shapes(sides, 1 / np.sqrt(counts[labels]), is_covered, own, bound)
        after = _by_class(covered(shapes), labels)
        loss = (before - after)[is_large].max(initial=0.0)
        if after.mean() > best.after and loss <= MAX_LOSS:
            best = AnchorChoice(shapes, best.before, float(after.mean()))
    return best if best.after >= best.before + MIN_GAIN else best._replace(shapes=None)


def explained_anchors(store: AnnotationStore, config: DetectorConfig) -> tuple[str, dict[str, Any]]:
    """What the user reads of the anchors, and the options that follow.

    Args:
        store: the training data.
        config: the detector.
    """
    found = _chosen(store, config)
    before, after = (f"{100 * share:.1f} %" for share in (found.before, found.after))
    finer = stride8_coverage(store, config, found)
    hint = f"; --{STRIDE8} {finer[0]:g} would cover {100 * finer[1]:.1f} %" if finer else ""
    hint += ", by a map without weights: for long trainings" if finer else ""
    if found.shapes is None:
        text = f"those of the weights cover {before} of the boxes (mean of the classes)"
        return f"{text}, fitted ones {after}: too little gain{hint}", {}
    text = f"fitted to the boxes: {after} are covered (mean of the classes), not {before}"
    return text + hint, {SHAPES: found.shapes}


def _chosen(store: AnnotationStore, config: DetectorConfig) -> AnchorChoice:
    return choose_anchors(store, config, build_detector(config).feature_sizes)


def stride8_coverage(
    store: AnnotationStore, config: DetectorConfig, found: AnchorChoice
) -> tuple[float, float] | None:
    """The scale of a map of stride 8 and the coverage with it, if that is much more.

    Args:
        store: the training data.
        config: the detector.
        found: the choice without such a map.
    """
    anchors = config.anchors
    is_possible = anchors.stride8_scale is None and config.head.takes_stride8
    if found.after >= COVERED_WELL or not is_possible:
        return None
    scale = anchors.min_scale / 2
    finer = dataclasses.replace(anchors, stride8_scale=scale)
    reached = _chosen(store, dataclasses.replace(config, anchors=finer)).after
    return (scale, reached) if reached >= found.after + STRIDE8_GAIN else None


def _sample(
    boxes: NDArray[np.float64], labels: NDArray[np.int16]
) -> tuple[NDArray[np.float64], NDArray[np.int16]]:
    """At most ``MAX_BOXES`` of the boxes, drawn with seed 0."""
    rows = np.random.default_rng(0).permutation(len(boxes))[:MAX_BOXES]
    return boxes[np.sort(rows)], labels[np.sort(rows)]


def _shares(store: AnnotationStore) -> tuple[NDArray[np.float64], NDArray[np.int16]]:
    """Boxes as shares of their images, xyxy, and labels; without crowds."""
    rows = np.repeat(np.arange(len(store)), np.diff(store.starts))
    sizes = store.images.sizes[rows][:, [1, 0, 1, 0]]
    is_object = ~store.is_crowd
    return (store.boxes / sizes)[is_object], store.labels[is_object]


def _covered(
    boxes: NDArray[np.float64],
    config: DetectorConfig,
    shapes: Shapes | None,
    feature_sizes: FeatureSizes,
) -> NDArray[np.bool_]:
    """[N] whether an anchor covers the box; None takes the detector's own anchors."""
    anchors = config.anchors
    if shapes is not None:
        as_tuples = tuple(tuple(level) for level in shapes)
        anchors = dataclasses.replace(anchors, shapes=as_tuples)
    size = config.image_size
    placed = generate_anchors(anchors, size, feature_sizes, config.padding) / size
    return np.asarray(best_ious(boxes.astype(np.float32), placed) >= COVERED_IOU)


def _by_class(covered: NDArray[np.bool_], labels: NDArray[np.int16]) -> NDArray[np.float64]:
    """Share of the boxes of each class that are covered; classes without a box are left out."""
    return np.array([covered[labels == label].mean() for label in np.unique(labels)])
