"""Compares an exported segmenter with PyTorch, on images from the file to the mask."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from igcv3det.io.images import read_image
from igcv3det.measure.parity import Difference
from igcv3det.tasks.segment.exported import ExportedSegmenter
from igcv3det.tasks.segment.masks import ClassLabels
from igcv3det.tasks.segment.network import Segmenter
from igcv3det.tasks.segment.predictor import SegmentationPredictor
from igcv3det.tasks.segment.scoring import score_split
from igcv3det.tasks.segment.sources import MaskedImage

MIOU_LIMIT = 0.01
"""Largest loss of mIoU, in any precision."""
TIES = 1e-3
"""Logits that differ by no more than this give another class only where two are that close."""
_COMPARED = 4  # every so many rows and columns of the logits


class Limits(NamedTuple):
    """What a file must stay within.

    Attributes:
        agreement: least share of the pixels that get the same class.
        logits: largest 95th percentile of the differences of logits.
    """

    agreement: float
    logits: float


LIMITS = {
    "fp32": Limits(0.999, 0.01),
    "fp16": Limits(0.995, 0.1),
    "int8": Limits(0.95, 1.0),
}
"""What rounding explains, by precision."""


def compare_segmenters(
    segmenter: Segmenter, exported: ExportedSegmenter, classes: ClassLabels, files: Sequence[Path]
) -> dict[str, Any]:
    """Compares logits at the network's input size, and masks at the images' own.

    Returns:
        "agreement": share of the pixels of all masks with the same class; "least_agreement" of an
        image; "logits": `Difference` of the logits, every fourth row and column.

    Raises:
        ImageReadError: a file that is no image.
    """
    ours, theirs = (SegmentationPredictor(own, classes) for own in (segmenter, exported))
    differences, shares, sizes = [], [], []
    for file in files:
        image = read_image(file)
        inputs = ours.preprocess(image)[None]
        with torch.inference_mode():
            own = segmenter(inputs)[..., ::_COMPARED, ::_COMPARED]
        other = exported.coarse_logits(inputs)[..., ::_COMPARED, ::_COMPARED]
        differences.append((own - other).abs())
        same = ours(image).mask == theirs(image).mask
        shares.append(float(same.mean()))
        sizes.append(same.size)
    total = sum(share * size for share, size in zip(shares, sizes, strict=True))
    return {
        "agreement": total / sum(sizes),
        "least_agreement": min(shares),
        "logits": Difference.of(differences)._asdict(),
    }


def compare_miou(
    segmenter: Segmenter,
    exported: ExportedSegmenter,
    classes: ClassLabels,
    samples: Sequence[MaskedImage],
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Compares the mIoU on images with masks.

    Args:
        segmenter: in PyTorch.
        exported: the same.
        classes: of both.
        samples: the images.
        progress: called after each batch with the images done, of either network, and all.

    Returns:
        "pytorch", "exported" and "loss"; "images" that were used; "unusable": a sentence for each
        other one.
    """

    def show(done: int) -> None:
        if progress:
            progress(done, len(samples))

    ours, theirs = (
        score_split(SegmentationPredictor(own, classes), samples, progress=show)
        for own in (segmenter, exported)
    )
    before, after = ours.scores.miou, theirs.scores.miou
    return {
        "pytorch": before,
        "exported": after,
        "loss": None if before is None or after is None else before - after,
        "images": ours.scores.images,
        "unusable": ours.failures,
    }


def segmenter_disagreements(found: dict[str, Any], limits: Limits) -> list[str]:
    """What in a comparison rounding does not explain; one sentence each.

    Args:
        found: of `compare_segmenters`; under "mIoU" of `compare_miou`, where it was measured.
        limits: of the file's precision.
    """
    sentences = []
    largest = found["logits"]["largest"]
    if found["agreement"] < limits.agreement and (largest is None or largest > TIES):
        sentences.append(
            f"{found['agreement']:.4f} of the pixels get the same class, limit {limits.agreement}"
        )
    p95 = found["logits"]["p95"]
    if p95 is not None and p95 > limits.logits:
        sentences.append(
            f"logits differ too much: 95th percentile {p95:.4f}, limit {limits.logits}"
        )
    loss = found.get("mIoU", {}).get("loss")
    if loss is not None and loss > MIOU_LIMIT:
        sentences.append(f"mIoU is {loss:.4f} lower, limit {MIOU_LIMIT}")
    return sentences
