"""Compares an exported file with PyTorch, on images rather than on noise.

Noise excites a network so little that wrong preprocessing, missing NMS or a bad range of an 8-bit
tensor hardly show. So whole images go through both, from the file to the detections.

Differences are judged by their distribution: one detection that NMS decides otherwise, or one image
that two ways of resizing treat differently, does not make a file wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from igcv3det.detection.box_coder import BoxCoder
from igcv3det.detection.iou import box_iou
from igcv3det.detection.postprocess import class_scores
from igcv3det.detector import SSDLite
from igcv3det.evaluation import CocoEvaluator
from igcv3det.evaluation.dataset_inference import average_precision
from igcv3det.io.images import read_image
from igcv3det.predictor import Predictor
from igcv3det.preprocess import Preprocess
from igcv3det.runtime import ExportedDetector
from igcv3det.structures import Detections

CONFIDENT = 0.3
"""Score from which a detection counts (the threshold of ``igcv3det predict``)."""
CANDIDATE_SCORE = 0.1
"""Score above which a candidate before NMS counts."""
SAME_IOU = 0.5
"""IoU from which two boxes of one class are the same detection."""
AP_LIMIT = 0.005
"""Largest loss of AP, in any precision."""


class Limits(NamedTuple):
    """What a file must stay within.

    Attributes:
        score: 95th percentile of the differences of scores, in 0..1.
        unmatched: share of the confident detections that only one of the two has.
    """

    score: float
    unmatched: float


LIMITS = {
    "fp32": Limits(0.001, 0.02),
    "fp16": Limits(0.02, 0.05),
    "int8": Limits(0.12, 0.25),
}
"""What rounding explains, by precision."""
RESIZING_LIMITS = Limits(0.05, 0.05)
"""At least this where the graph resizes as OpenCV does: some pixels differ by a grey level."""


class Difference(NamedTuple):
    """The distribution of absolute differences; all None where there is nothing to compare."""

    median: float | None = None
    p95: float | None = None
    largest: float | None = None
    mean: float | None = None

    @classmethod
    def of(cls, values: Sequence[Tensor]) -> Difference:
        """Of the absolute differences in all tensors."""
        joined = torch.cat([tensor.flatten() for tensor in values]) if values else torch.zeros(0)
        if not len(joined):
            return cls()
        ordered = joined.sort().values
        median, p95 = (ordered[int(share * (len(ordered) - 1))].item() for share in (0.5, 0.95))
        return cls(median, p95, ordered[-1].item(), joined.mean().item())


def compare_detections(
    detector: SSDLite, exported: ExportedDetector, files: Sequence[Path]
) -> dict[str, Any]:
    """Compares the detections in images.

    Returns:
        "confident": PyTorch's detections with a score of `CONFIDENT` or more; "matched": those that
        the file has too, with any score; "extra": confident ones of the file that PyTorch lacks;
        "score" and "box_px": `Difference` of the matched ones, boxes in pixels of the images.

    Raises:
        ImageReadError: a file that is no image.
    """
    pytorch, other = Predictor(detector), Predictor(exported)
    confident = matched = extra = 0
    scores, boxes = [], []
    for file in files:
        image = read_image(file)
        ours, theirs = pytorch(image), other(image)
        expected = ours.above(CONFIDENT)
        rows = match_detections(expected, theirs)
        is_matched = rows >= 0
        confident, matched = confident + len(expected), matched + int(is_matched.sum())
        extra += int((match_detections(theirs.above(CONFIDENT), ours) < 0).sum())
        scores.append((expected.scores[is_matched] - theirs.scores[rows[is_matched]]).abs())
        boxes.append((expected.boxes[is_matched] - theirs.boxes[rows[is_matched]]).abs())
    return {
        "confident": confident,
        "matched": matched,
        "extra": extra,
        "score": Difference.of(scores)._asdict(),
        "box_px": Difference.of(boxes)._asdict(),
    }


def compare_candidates(
    detector: SSDLite, exported: ExportedDetector, files: Sequence[Path]
) -> dict[str, Any]:
    """Compares boxes and scores before NMS, for a file without NMS.

    Returns:
        "score": `Difference` of the scores above `CANDIDATE_SCORE` in either; "box_px": of the
        boxes of anchors with such a score in PyTorch, in pixels of the network input.

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
            outputs = detector(preprocess(image)[None].to(detector.anchors.device))
        ours = class_scores(outputs.logits, config.head.activation).cpu()
        decoded = coder.decode(outputs.offsets, detector.anchors).clamp(0, config.image_size).cpu()
        found, theirs = exported(exported.preprocess(image)[None])
        if exported.spec.preprocessing:
            height, width = image.shape[:2]
            found = found / torch.tensor([width, height, width, height]) * config.image_size
        counts = ours > CANDIDATE_SCORE
        scores.append((ours - theirs)[counts | (theirs > CANDIDATE_SCORE)].abs())
        boxes.append((decoded - found)[counts.any(dim=2)].abs())
    return {"score": Difference.of(scores)._asdict(), "box_px": Difference.of(boxes)._asdict()}


def compare_ap(
    detector: SSDLite,
    exported: ExportedDetector,
    annotations: Path,
    images: Path,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """AP of both on a data set, scored as ``igcv3det eval`` does.

    Args:
        detector: in PyTorch.
        exported: the same.
        annotations: a COCO annotation file.
        images: folder where its file names start from.
        progress: called after each batch with the images done, of either network, and all.

    Returns:
        "pytorch", "exported", "loss", and "unreadable": one sentence for each image that could not
        be read.

    Raises:
        FileNotFoundError, ValueError: from `average_precision`.
    """
    record = CocoEvaluator(annotations).ground_truth
    count = len(record.images)

    def show(done: int) -> None:
        if progress:
            progress(done, count)

    ours, unreadable = average_precision(detector, record, images, show)
    theirs, _ = average_precision(exported, record, images, show)
    return {
        "pytorch": ours,
        "exported": theirs,
        "loss": ours - theirs,
        "unreadable": unreadable,
    }


def limits_of(exported: ExportedDetector) -> Limits:
    """What a file must stay within, by its precision and its preprocessing."""
    limits = LIMITS[exported.spec.precision]
    if exported.spec.preprocessing and exported.config.preprocess.resize == "bilinear":
        return Limits(*map(max, limits, RESIZING_LIMITS))
    return limits


def disagreements(report: dict[str, Any], limits: Limits) -> list[str]:
    """What in a report rounding does not explain; one sentence each.

    Args:
        report: "detections", "candidates" and "AP", of the functions above, where there are any.
        limits: see `limits_of`; one unmatched detection is always allowed.
    """
    sentences = []
    for kind in ("candidates", "detections"):
        p95 = report.get(kind, {}).get("score", {}).get("p95")
        if p95 is not None and p95 > limits.score:
            sentences.append(
                f"scores of {kind} differ too much: 95th percentile {p95:.4f}, limit {limits.score}"
            )
    found = report.get("detections", {"confident": 0, "matched": 0, "extra": 0})
    allowed = max(1, limits.unmatched * found["confident"])
    for kind, number in (
        ("missing", found["confident"] - found["matched"]),
        ("extra", found["extra"]),
    ):
        if number > allowed:
            sentences.append(
                f"{number} detections are {kind}, of {found['confident']} above {CONFIDENT}; "
                f"limit {limits.unmatched:.0%}"
            )
    loss = report.get("AP", {}).get("loss")
    if loss is not None and loss > AP_LIMIT:
        sentences.append(f"AP is {loss:.4f} below PyTorch's, limit {AP_LIMIT}")
    return sentences


def match_detections(first: Detections, second: Detections) -> Tensor:
    """[N] int64: the row of the second that is the same as each of the first, or -1; each once."""
    rows = torch.full((len(first),), -1, dtype=torch.int64)
    if not len(first) or not len(second):
        return rows
    overlap = box_iou(first.boxes, second.boxes)
    overlap[first.labels[:, None] != second.labels] = 0
    for index in range(len(first)):  # detections are sorted by score, best first
        best = int(overlap[index].argmax())
        if overlap[index, best] >= SAME_IOU:
            rows[index] = best
            overlap[:, best] = 0
    return rows
