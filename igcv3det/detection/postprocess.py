"""From raw head outputs to the detections of each image: decoding and class-wise NMS.

Liu et al., SSD, arXiv:1512.02325, section 2.1.

Differs from torchvision's ``SSD.postprocess_detections`` in one point: boxes that lie outside the
image or are not finite are dropped before the candidates are chosen; torchvision returns them,
without area or as NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from igcv3det.config import PostprocessConfig
from igcv3det.detection.box_coder import BoxCoder
from igcv3det.detection.nms import class_wise_nms
from igcv3det.structures import Detections, HeadOutputs

# Boxes per wanted detection in the first round of NMS; affects speed only.
_FIRST_ROUND = 8


@torch.no_grad()
def postprocess(
    outputs: HeadOutputs,
    anchors: Tensor,
    original_sizes: Sequence[tuple[int, int]],
    image_size: int,
    config: PostprocessConfig,
    activation: Literal["softmax", "sigmoid"],
    variances: tuple[float, float, float, float],
    labels: Sequence[Tensor | None] | None = None,
) -> list[Detections]:
    """Decodes, filters and suppresses the boxes of every image of a batch.

    Per class: the scores above the threshold, of these the best ``candidates_per_class``, then NMS
    at ``iou_threshold``; of all classes together the best ``detections_per_image``. Anchors whose
    logits or offsets are not finite give no detection.

    Args:
        outputs: logits [B, A, K + 1] and offsets [B, A, 4].
        anchors: [A, 4] xyxy, pixels of the network input.
        original_sizes: (height, width) in pixels of each image before it was resized.
        image_size: side of the square network input, pixels.
        config: thresholds and limits.
        activation: turns logits into scores; column 0, the background, is part of the softmax and
            dropped after it.
        variances: of the box coder.
        labels: of the classes that are wanted in each image, in 1..K; None takes all.

    Returns:
        B detections without categories, in descending order of score, boxes clipped to the original
        image.
    """
    coder = BoxCoder(variances)
    wanted = labels or [None] * len(original_sizes)
    return [
        _detect(logits, offsets, anchors, size, image_size, config, activation, coder, own)
        for logits, offsets, size, own in zip(*outputs, original_sizes, wanted, strict=True)
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
    labels: Tensor | None,
) -> Detections:
    """The detections of one image: logits [A, K + 1], offsets [A, 4]."""
    scores = _of_classes(class_scores(logits, activation), labels)
    # Few anchors exceed the threshold, so only these are decoded. NaN exceeds nothing.
    candidate_rows = torch.nonzero(scores.amax(dim=1) > config.score_threshold)[:, 0]
    boxes = coder.decode(offsets[candidate_rows].float(), anchors[candidate_rows])
    return select_detections(boxes, scores[candidate_rows], original_size, image_size, config)


def select_detections(
    boxes: Tensor,
    scores: Tensor,
    original_size: tuple[int, int],
    image_size: int,
    config: PostprocessConfig,
    labels: Tensor | None = None,
) -> Detections:
    """The part of `postprocess` after decoding, for one image.

    Args:
        boxes: [N, 4] xyxy, pixels of the network input, clipped or not.
        scores: [N, K] of the foreground classes.
        original_size: (height, width) in pixels of the image before it was resized.
        image_size: side of the square network input, pixels.
        config: thresholds and limits.
        labels: of the classes that are wanted, in 1..K; None takes all.

    Returns:
        Detections without categories, in descending order of score, boxes clipped to the original
        image.
    """
    scores = _of_classes(scores, labels)
    usable = boxes.isfinite().all(dim=1) & (scores.amax(dim=1) > config.score_threshold)
    boxes = boxes.clamp(min=0, max=image_size)
    usable &= (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
    boxes, scores = boxes[usable], scores[usable]

    rows, labels, scores = _candidates(scores, config)
    boxes = boxes[rows]
    keep = _nms(boxes, scores, labels, config)
    height, width = original_size
    # Divided first: the right border is then exactly the width, never a rounding beyond it.
    boxes = boxes[keep] / image_size * boxes.new_tensor([width, height, width, height])
    return Detections(boxes, scores[keep], labels[keep])


def _of_classes(scores: Tensor, labels: Tensor | None) -> Tensor:
    """Scores [N, K] with 0, which exceeds no threshold, for classes that are not wanted."""
    if labels is None:
        return scores
    is_wanted = torch.zeros(scores.shape[1], dtype=torch.bool, device=scores.device)
    is_wanted[labels.to(scores.device) - 1] = True
    return scores.where(is_wanted, 0)


def _nms(boxes: Tensor, scores: Tensor, labels: Tensor, config: PostprocessConfig) -> Tensor:
    """Indices of the best ``detections_per_image`` boxes after class-wise NMS, in order.

    Whether a box is kept depends only on boxes of higher score. So NMS runs on the best boxes
    first, and on more of them only if too few are kept; the result is that of NMS on all.
    """
    order = scores.argsort(descending=True, stable=True)
    count = 0
    while True:
        count = max(4 * count, _FIRST_ROUND * config.detections_per_image)
        best = order[:count]
        keep = class_wise_nms(boxes[best], scores[best], labels[best], config.iou_threshold)
        if len(keep) >= config.detections_per_image or count >= len(order):
            return best[keep[: config.detections_per_image]]


def _candidates(scores: Tensor, config: PostprocessConfig) -> tuple[Tensor, Tensor, Tensor]:
    """Rows, labels in 1..K and scores of the candidates of each class, from scores [N, K]."""
    is_candidate = scores > config.score_threshold
    # Only classes with too many candidates are sorted: usually none.
    over_limit = torch.nonzero(is_candidate.sum(dim=0) > config.candidates_per_class)[:, 0]
    if len(over_limit):
        best = scores[:, over_limit].topk(config.candidates_per_class, dim=0).indices
        is_candidate[:, over_limit] = False
        is_candidate[best, over_limit] = True
    rows, columns = torch.nonzero(is_candidate, as_tuple=True)
    return rows, columns + 1, scores[rows, columns]
