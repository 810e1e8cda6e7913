"""From logits and offsets to the objects of each image.

Liu et al., SSD, arXiv:1512.02325, section 2.1: decode, then suppress non-maxima within each class.

Differs from torchvision's ``SSD.postprocess_detections`` in one point: boxes that lie outside the
image altogether, or are not numbers, are dropped before they take a place among the candidates;
torchvision returns them, without area or as NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torchvision.ops import batched_nms

from igcv3det.config import PostprocessConfig
from igcv3det.detection.box_coder import BoxCoder
from igcv3det.structures import Detections, HeadOutputs

# Candidates per wanted detection in the first round of suppression; a matter of speed alone.
_FIRST_LOOK = 8


@torch.no_grad()
def postprocess(
    outputs: HeadOutputs,
    anchors: Tensor,
    original_sizes: Sequence[tuple[int, int]],
    image_size: int,
    config: PostprocessConfig,
    activation: Literal["softmax", "sigmoid"],
    variances: tuple[float, float, float, float],
) -> list[Detections]:
    """Detects the objects of every image of a batch.

    Per class: scores above the threshold, the best ``candidates_per_class``, suppression of boxes
    that overlap a better one of the same class by more than ``iou_threshold``; then the best
    ``detections_per_image`` of all classes. Anchors whose logits or offsets are not numbers give no
    detection: an image of NaN comes out empty, not as an error.

    Args:
        outputs: logits [B, A, K + 1] and offsets [B, A, 4].
        anchors: [A, 4] xyxy, pixels of the network input.
        original_sizes: (height, width) in pixels of each image before it was stretched.
        image_size: side of the square network input, pixels.
        config: thresholds and numbers.
        activation: how logits become scores; column 0, the background, takes part in a softmax and
            is dropped after it.
        variances: of the box coder.

    Returns:
        B detections, boxes within the original image, best score first, without categories.
    """
    coder = BoxCoder(variances)
    return [
        _detect(logits, offsets, anchors, size, image_size, config, activation, coder)
        for logits, offsets, size in zip(*outputs, original_sizes, strict=True)
    ]


def class_scores(logits: Tensor, activation: Literal["softmax", "sigmoid"]) -> Tensor:
    """[..., K] float32 scores in 0..1 of the K foreground classes, from [..., K + 1] logits."""
    logits = logits.float()
    scores = logits.softmax(dim=-1) if activation == "softmax" else logits.sigmoid()
    return scores[..., 1:]


def _detect(
    logits: Tensor,
    offsets: Tensor,
    anchors: Tensor,
    original_size: tuple[int, int],
    image_size: int,
    config: PostprocessConfig,
    activation: Literal["softmax", "sigmoid"],
    coder: BoxCoder,
) -> Detections:
    """The objects of one image: logits [A, K + 1], offsets [A, 4]."""
    scores = class_scores(logits, activation)
    # Few anchors ever score; all that follows costs by their number. NaN is not above anything.
    hopeful = torch.nonzero(scores.amax(dim=1) > config.score_threshold)[:, 0]
    boxes = coder.decode(offsets[hopeful].float(), anchors[hopeful])
    return select_detections(boxes, scores[hopeful], original_size, image_size, config)


def select_detections(
    boxes: Tensor,
    scores: Tensor,
    original_size: tuple[int, int],
    image_size: int,
    config: PostprocessConfig,
) -> Detections:
    """The second half of `postprocess`, for one image whose boxes are decoded already.

    Args:
        boxes: [N, 4] xyxy, pixels of the network input, clipped or not.
        scores: [N, K] of the foreground classes.
        original_size: (height, width) in pixels of the image before it was stretched.
        image_size: side of the square network input, pixels.
        config: thresholds and numbers.

    Returns:
        Boxes within the original image, best score first, without categories.
    """
    usable = boxes.isfinite().all(dim=1) & (scores.amax(dim=1) > config.score_threshold)
    boxes = boxes.clamp(min=0, max=image_size)
    usable &= (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
    boxes, scores = boxes[usable], scores[usable]

    rows, labels, scores = _candidates(scores, config)
    boxes = boxes[rows]
    keep = _suppress(boxes, scores, labels, config)
    height, width = original_size
    # Divided first: the right border then lands on the width itself, never a rounding beyond it.
    boxes = boxes[keep] / image_size * boxes.new_tensor([width, height, width, height])
    return Detections(boxes, scores[keep], labels[keep])


def _suppress(boxes: Tensor, scores: Tensor, labels: Tensor, config: PostprocessConfig) -> Tensor:
    """Indices of the best ``detections_per_image`` survivors of class-wise suppression, in order.

    Whether a box survives depends on better boxes only. So the best are suppressed among
    themselves, and more are looked at only while survivors are missing: the result is that of all
    at once.
    """
    order = scores.argsort(descending=True, stable=True)
    looked_at = 0
    while True:
        looked_at = max(4 * looked_at, _FIRST_LOOK * config.detections_per_image)
        head = order[:looked_at]
        keep = batched_nms(boxes[head], scores[head], labels[head], config.iou_threshold)
        if len(keep) >= config.detections_per_image or looked_at >= len(order):
            return head[keep[: config.detections_per_image]]


def _candidates(scores: Tensor, config: PostprocessConfig) -> tuple[Tensor, Tensor, Tensor]:
    """Row, label in 1..K and score of each class's best scores over the threshold, from [N, K]."""
    is_candidate = scores > config.score_threshold
    # sorting is for the few classes that have too many, most often for none
    crowded = torch.nonzero(is_candidate.sum(dim=0) > config.candidates_per_class)[:, 0]
    if len(crowded):
        best = scores[:, crowded].topk(config.candidates_per_class, dim=0).indices
        is_candidate[:, crowded] = False
        is_candidate[best, crowded] = True
    rows, columns = torch.nonzero(is_candidate, as_tuple=True)
    return rows, columns + 1, scores[rows, columns]
