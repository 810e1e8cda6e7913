"""How well a detector finds what the original finds: without annotations, at any input size.

The divergence compares cells, which another input size does not have. Nor can the original's own
detections be the ground truth: which weak objects it finds, and its boxes, depend on where its
cells lie, and a detector of the same size has the same cells. So the original looks at the mirrored
image at several sizes, and what it finds is fused.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from igcv3det.config.values import LEAST_SIDE
from igcv3det.datasets.box_labels import ImageBoxes, write_labels
from igcv3det.detector import SSDLite, at_input_size
from igcv3det.evaluation import CocoEvaluator
from igcv3det.evaluation.dataset_inference import DETECTIONS_PER_IMAGE, SCORE_THRESHOLD
from igcv3det.fastpath.deploy import deploy
from igcv3det.io.images import Image, read_image
from igcv3det.predictor import Predictor
from igcv3det.structures import Detections
from igcv3det.tasks.compress.work_folder import damaged, read_mapping
from igcv3det.tasks.distill.fusion import fuse

THRESHOLD = 0.3
"""Score after fusion from which a detection counts as an object."""
_VIEW_THRESHOLD = 0.1  # of one view: a lower one hardly changes what is fused, and takes longer
IMAGES = 256
"""At most."""
_AT_ONCE = 4  # images, which may be large
VIEWS = tuple(n / 15 for n in range(11, 18))
"""Sides of the input as shares of the original's.

They lie around the sizes that are compared. Other choices are in docs/research/compression.md.
"""


class Agreement:
    """AP of detectors with what the original finds as ground truth.

    Args:
        original: in evaluation mode.
        images: at least one; the first `IMAGES` are used.
        truth: JSON file of what the original finds, which is written unless it is there.

    Attributes:
        objects: number of objects in ``truth``.

    Raises:
        ValueError: ``truth`` is damaged; the message names it.
    """

    def __init__(self, original: SSDLite, images: Sequence[Path], truth: Path) -> None:
        self._truth, self._images = truth, images[:IMAGES]
        if not truth.is_file():
            _write_truth(original, self._images, truth)
        objects = read_mapping(truth).get("annotations")
        if not isinstance(objects, list):
            raise damaged(truth, "no annotations")
        self.objects = len(objects)

    def of(self, detector: SSDLite) -> float:
        """AP of a detector, in 0..1; NaN where there are no objects."""
        predictor = Predictor(
            deploy(detector, "torch"),
            score_threshold=SCORE_THRESHOLD,
            detections_per_image=DETECTIONS_PER_IMAGE,
        )
        evaluator = CocoEvaluator(self._truth, predictor.categories)
        ids = {entry.file_name: entry.image_id for entry in evaluator.ground_truth.images}
        for paths in _chunks(self._images):
            # oriented, as for the truth: an evaluation of annotated images reads pixels as stored
            found = predictor([read_image(path) for path in paths])
            evaluator.update([ids[path.name] for path in paths], found)
        return evaluator.compute()["AP"]


def _write_truth(original: SSDLite, images: Sequence[Path], truth: Path) -> None:
    side = original.config.image_size
    sides = dict.fromkeys(max(LEAST_SIDE, round(side * share)) for share in VIEWS)
    views = [_predictor(at_input_size(original, own)) for own in sides]
    boxes, sizes = {}, {}
    for paths in _chunks(images):
        pixels = [read_image(path) for path in paths]
        by_view = [_detect_mirrored(view, pixels) for view in views]
        for path, image, views_of_it in zip(paths, pixels, zip(*by_view, strict=True), strict=True):
            height, width = image.shape[:2]
            found = fuse(views_of_it, score_threshold=_VIEW_THRESHOLD)
            found = found[found.scores >= THRESHOLD]
            shares = found.boxes / torch.tensor([width, height, width, height])
            boxes[path.name] = ImageBoxes(shares, found.labels, found.scores)
            sizes[path.name] = width, height
    write_labels(truth, boxes, sizes, original.categories)


def _chunks(paths: Sequence[Path]) -> list[Sequence[Path]]:
    return [paths[start : start + _AT_ONCE] for start in range(0, len(paths), _AT_ONCE)]


def _predictor(detector: SSDLite) -> Predictor:
    return Predictor(deploy(detector, "torch"), score_threshold=_VIEW_THRESHOLD)


def _detect_mirrored(predictor: Predictor, images: Sequence[Image]) -> list[Detections]:
    """Detections in mirrored images, in pixels of the images as they are."""
    detections = []
    for image, found in zip(images, predictor([x[:, ::-1].copy() for x in images]), strict=True):
        boxes = found.boxes.clone()
        boxes[:, [0, 2]] = image.shape[1] - boxes[:, [2, 0]]
        detections.append(Detections(boxes, found.scores, found.labels, found.categories))
    return detections
