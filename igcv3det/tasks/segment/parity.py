"""Compares an exported segmenter with PyTorch, on images from the file to the mask."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from igcv3det.io.images import read_image
from igcv3det.measure.parity import Difference
from igcv3det.tasks.segment.exported import ExportedSegmenter
from igcv3det.tasks.segment.masks import ClassLabels
from igcv3det.tasks.segment.network import Segmenter
from igcv3det.tasks.segment.predictor import SegmentationPredictor

AGREEMENT_LIMIT = 0.999
"""Least share of the pixels that get the same class."""
LOGIT_LIMIT = 0.01
"""Largest 95th percentile of the differences of logits."""
_COMPARED = 4  # every so many rows and columns of the logits


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


def segmenter_disagreements(found: dict[str, Any]) -> list[str]:
    """What in a comparison rounding does not explain; one sentence each."""
    sentences = []
    if found["agreement"] < AGREEMENT_LIMIT:
        sentences.append(
            f"{found['agreement']:.4f} of the pixels get the same class, limit {AGREEMENT_LIMIT}"
        )
    p95 = found["logits"]["p95"]
    if p95 is not None and p95 > LOGIT_LIMIT:
        sentences.append(f"logits differ too much: 95th percentile {p95:.4f}, limit {LOGIT_LIMIT}")
    return sentences
