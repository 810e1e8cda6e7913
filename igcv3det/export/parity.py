"""Whether an exported file answers as PyTorch does, on images rather than on noise.

Noise excites a network so little that wrong preprocessing, a dropped suppression or a bad range of
an 8-bit tensor hardly show. So whole images go through both, from the file to the detections.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from igcv3det.detection.box_coder import BoxCoder
from igcv3det.detection.iou import box_iou
from igcv3det.detection.postprocess import class_scores
from igcv3det.detector import SSDLite
from igcv3det.evaluation import CocoEvaluator
from igcv3det.evaluation.dataset_inference import (
    DETECTIONS_PER_IMAGE,
    SCORE_THRESHOLD,
    score_images,
)
from igcv3det.io.images import read_image
from igcv3det.predictor import Predictor
from igcv3det.preprocess import Preprocess
from igcv3det.runtime import ExportedDetector
from igcv3det.structures import Detections

CONFIDENT = 0.3
"""Score from which a detection must be found again (what ``tools/infer.py`` draws)."""
SAME_IOU = 0.5
"""Overlap from which two boxes of one class are taken for the same detection."""
SCORE_LIMITS = {"fp32": 1e-3, "fp16": 0.02}
"""Largest difference of a score, in 0..1, that rounding explains; int8 is judged by its AP."""
STRETCHING_LIMIT = 0.1
"""The same where OpenCV's stretching happens inside: a grey level here and there."""
AP_LIMIT = 0.005
"""Largest loss of AP, of any precision."""


class Difference(NamedTuple):
    """How far two sets of numbers are apart.

    Attributes:
        largest: None where there is nothing to compare.
        mean: of the absolute differences.
    """

    largest: float | None
    mean: float | None

    @classmethod
    def of(cls, parts: Sequence[Tensor]) -> Difference:
        """Of the absolute differences in all parts."""
        values = torch.cat([part.flatten() for part in parts]) if parts else torch.zeros(0)
        return cls(values.max().item(), values.mean().item()) if len(values) else cls(None, None)


def compare_detections(
    detector: SSDLite, exported: ExportedDetector, files: Sequence[Path]
) -> dict[str, Any]:
    """What both find in images.

    Returns:
        "confident": detections of PyTorch with `CONFIDENT` scores; "found": those that the file
        has too, with whatever score; "added": confident ones of the file that PyTorch lacks;
        "score" and "box_px": `Difference` of those found, boxes in pixels of the images.

    Raises:
        ImageReadError: a file that is no image.
    """
    eager, other = Predictor(detector), Predictor(exported)
    confident = found = added = 0
    scores, boxes = [], []
    for file in files:
        image = read_image(file)
        ours, theirs = eager(image), other(image)
        sure = ours.above(CONFIDENT)
        rows = _same(sure, theirs)
        is_found = rows >= 0
        confident, found = confident + len(sure), found + int(is_found.sum())
        added += int((_same(theirs.above(CONFIDENT), ours) < 0).sum())
        scores.append((sure.scores[is_found] - theirs.scores[rows[is_found]]).abs())
        boxes.append((sure.boxes[is_found] - theirs.boxes[rows[is_found]]).abs())
    return {
        "confident": confident,
        "found": found,
        "added": added,
        "score": Difference.of(scores)._asdict(),
        "box_px": Difference.of(boxes)._asdict(),
    }


def compare_candidates(
    detector: SSDLite, exported: ExportedDetector, files: Sequence[Path]
) -> dict[str, Any]:
    """All boxes and scores before suppression, for a file that gives them.

    Returns:
        "score": `Difference` of all scores; "box_px": of the boxes of anchors that score above the
        detector's threshold, in pixels of the network input.

    Raises:
        ImageReadError: a file that is no image.
    """
    config = detector.config
    preprocess = Preprocess(config.preprocess, config.image_size)
    coder = BoxCoder(config.variances)
    scores, boxes = [], []
    for file in files:
        image = read_image(file)
        with torch.inference_mode():
            outputs = detector(preprocess(image)[None])
        ours = class_scores(outputs.logits, config.head.activation)
        decoded = coder.decode(outputs.offsets, detector.anchors).clamp(0, config.image_size)
        found, theirs = exported(exported.preprocess(image)[None])
        if exported.spec.preprocessing:
            height, width = image.shape[:2]
            found = found / torch.tensor([width, height, width, height]) * config.image_size
        counts = ours.amax(dim=2) > config.postprocess.score_threshold
        scores.append((ours - theirs).abs())
        boxes.append((decoded - found)[counts].abs())
    return {"score": Difference.of(scores)._asdict(), "box_px": Difference.of(boxes)._asdict()}


def compare_precision(
    detector: SSDLite, exported: ExportedDetector, annotations: Path, images: Path
) -> dict[str, Any]:
    """AP of both on a data set, scored as ``tools/eval_det.py`` does.

    Returns:
        "eager", "exported" and "loss" (None where the data set has nothing to find), "images", and
        "unreadable": one sentence for each image that could not be read.

    Raises:
        FileNotFoundError, ValueError: as `CocoEvaluator`.
    """
    figures: dict[str, Any] = {}
    unreadable: list[str] = []
    for name, network in (("eager", detector), ("exported", exported)):
        predictor = Predictor(
            network, score_threshold=SCORE_THRESHOLD, detections_per_image=DETECTIONS_PER_IMAGE
        )
        evaluator = CocoEvaluator(annotations, predictor.categories)
        ids = list(evaluator.ground_truth.images)
        unreadable = score_images(predictor, evaluator, images, ids)
        figures[name] = evaluator.compute()["AP"]
    loss = figures["eager"] - figures["exported"]
    if loss != loss:  # AP is not a number where there is nothing to find
        figures, loss = dict.fromkeys(figures), None
    return {**figures, "loss": loss, "images": len(ids), "unreadable": unreadable}


def faults(report: dict[str, Any], exported: ExportedDetector) -> list[str]:
    """What in a report is more than rounding explains; one sentence each."""
    spec, wrong = exported.spec, []
    limit = SCORE_LIMITS.get(spec.precision)
    if limit and spec.preprocessing and exported.config.preprocess.resize == "bilinear":
        limit = STRETCHING_LIMIT
    for part in ("candidates", "detections") if limit else ():
        largest = report.get(part, {}).get("score", {}).get("largest")
        if largest is not None and largest > limit:
            wrong.append(f"scores of {part} differ by up to {largest:.4f}, more than {limit}")
    loss = report.get("AP", {}).get("loss")
    if loss is not None and loss > AP_LIMIT:
        wrong.append(f"AP is {loss:.4f} lower than PyTorch's, more than {AP_LIMIT}")
    return wrong


def _same(first: Detections, second: Detections) -> Tensor:
    """[N] int64: which of the second is the same as each of the first, -1 for none; each once."""
    rows = torch.full((len(first),), -1, dtype=torch.int64)
    if not len(first) or not len(second):
        return rows
    overlap = box_iou(first.boxes, second.boxes)
    overlap[first.labels[:, None] != second.labels] = 0
    for index in range(len(first)):  # best score first, as detections are sorted
        best = int(overlap[index].argmax())
        if overlap[index, best] >= SAME_IOU:
            rows[index] = best
            overlap[:, best] = 0
    return rows
