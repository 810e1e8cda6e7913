"""MultiBox loss: classification of all anchors, regression of the matched ones.

Liu et al., SSD, arXiv:1512.02325, section 2.2 "Training objective" and "Hard negative mining"; the
focal option is Lin et al., arXiv:1708.02002, section 3.2. Column 0 of the logits is the background:

=============== ========== ======================================================================
classification  activation an anchor's loss
=============== ========== ======================================================================
hard_negatives  softmax    cross-entropy over K + 1 columns, as torchvision's SSD
hard_negatives  sigmoid    binary cross-entropy summed over K + 1 columns, target one-hot
                           including the background, as TensorFlow's ssdlite_mobilenet_v2_coco
focal           sigmoid    focal loss summed over K + 1 columns, background anchors all zeros
                           (``encode_background_as_zeros``), as TensorFlow's ssdlite_mobilenet_v3
=============== ========== ======================================================================

Boxes may carry scores (``Target.scores``, of other detectors): the score is then the target of
the binary cross-entropy, and the weight of the box in the regression.

Differs from torchvision's ``SSD.compute_loss``: images without objects contribute their hardest
``min_negatives`` background anchors; anchors in crowd regions contribute nothing; the divisor is
averaged over the processes of a distributed run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from igcv3det.config import LossConfig
from igcv3det.detection.box_coder import BoxCoder
from igcv3det.detection.matcher import IGNORED, match_batch
from igcv3det.structures import HeadOutputs, Target


class MultiBoxLoss(nn.Module):
    """The criterion: matches, encodes, mines and sums; it has no parameters.

    It is computed in float32 whatever precision the outputs have.

    Args:
        config: matching, mining and weights.
        activation: that turns the detector's logits into scores.
        variances: of the box coder.

    Raises:
        ValueError: focal loss with softmax.
    """

    def __init__(
        self,
        config: LossConfig,
        activation: Literal["softmax", "sigmoid"],
        variances: tuple[float, float, float, float],
    ) -> None:
        super().__init__()
        if config.classification == "focal" and activation != "sigmoid":
            raise ValueError(
                "loss.classification focal trains sigmoid scores: "
                f"set detector.head.activation to sigmoid, it is {activation}"
            )
        self.config = config
        self.activation = activation
        self.coder = BoxCoder(variances)

    def forward(
        self, outputs: HeadOutputs, anchors: Tensor, targets: Sequence[Target]
    ) -> dict[str, Tensor]:
        """Both parts of the loss, to be summed; ``box_weight`` is applied.

        Args:
            outputs: logits [B, A, K + 1] and offsets [B, A, 4].
            anchors: [A, 4] xyxy, pixels of the network input.
            targets: B of them, on the device of the anchors.

        Returns:
            ``classification`` and ``box``: float32 scalars, sums over the batch divided by its
            positive anchors (at least 1), whose number is averaged over the processes of a
            distributed run while training.
        """
        config = self.config
        with torch.autocast(outputs.logits.device.type, enabled=False):
            boxes = [target.boxes for target in targets]
            crowds = [target.crowds for target in targets]
            matched = match_batch(anchors, boxes, config.matching_iou, crowds, config.crowd_ioa)
            images, positives = torch.nonzero(matched >= 0, as_tuple=True)
            objects = _row_starts(boxes, matched.device)[images] + matched[images, positives]
            labels = torch.zeros_like(matched)
            labels[images, positives] = torch.cat([target.labels for target in targets])[objects]
            confidence = self._box_confidence(targets)
            weights = of_anchors = None
            if confidence is not None:
                weights = confidence[objects]
                of_anchors = torch.ones(labels.shape, device=labels.device)
                of_anchors[images, positives] = weights
            expected = self.coder.encode(torch.cat(boxes)[objects].float(), anchors[positives])
            box = _regression(outputs.offsets[images, positives].float(), expected, weights)
            classification = self._classification(
                outputs.logits, labels, matched == IGNORED, of_anchors
            )
            divisor = _divisor(len(objects), matched.device, shared=self.training)
            return {
                "classification": classification / divisor,
                "box": config.box_weight * box / divisor,
            }

    def _box_confidence(self, targets: Sequence[Target]) -> Tensor | None:
        """[sum of N] scores of all boxes, 1 for boxes without; None where no box has a score."""
        if all(target.scores is None for target in targets):
            return None
        if self.activation != "sigmoid" or self.config.classification != "hard_negatives":
            raise ValueError(
                "boxes with scores need detector.head.activation sigmoid and "
                "loss.classification hard_negatives"
            )
        return torch.cat(
            [
                target.scores.float()
                if target.scores is not None
                else torch.ones(len(target.boxes), device=target.boxes.device)
                for target in targets
            ]
        )

    def _classification(
        self, logits: Tensor, labels: Tensor, is_ignored: Tensor, confidence: Tensor | None
    ) -> Tensor:
        """Sum of the classification loss over [B, A] anchors with labels 0..K."""
        config = self.config
        if config.classification == "focal":
            return focal_loss(logits, labels, is_ignored, config.focal_alpha, config.focal_gamma)
        is_positive = labels > 0
        with torch.no_grad():
            # Image by image: the scores of one image fit the processor's cache.
            as_background = torch.stack([self._background_loss(of_image) for of_image in logits])
        chosen = is_positive | hard_negatives(
            as_background,
            ~(is_positive | is_ignored),
            (config.negatives_per_positive * is_positive.sum(dim=1)).clamp(config.min_negatives),
        )
        # Only the chosen anchors enter the graph: a few per cent of the rows.
        rows, classes = logits[chosen].float(), labels[chosen]
        if self.activation == "softmax":
            return F.cross_entropy(
                rows, classes, reduction="sum", label_smoothing=config.label_smoothing
            )
        one_hot = F.one_hot(classes, rows.shape[-1]).to(rows.dtype)
        if confidence is not None:  # soft target: the score for the class, the rest for background
            share = confidence[chosen][:, None]
            one_hot = one_hot * share
            one_hot[:, :1] += 1 - share
        return F.binary_cross_entropy_with_logits(rows, one_hot, reduction="sum")

    def _background_loss(self, logits: Tensor) -> Tensor:
        """[A]: loss of each anchor of one image with background as its target; for ranking only."""
        logits = logits.float()
        if self.activation == "softmax":
            log_scores = logits.log_softmax(dim=-1)
            smoothing = self.config.label_smoothing
            loss = -(1 - smoothing) * log_scores[..., 0]
            return loss - smoothing * log_scores.mean(dim=-1) if smoothing else loss
        # -log(sigmoid) in place of softplus, which is several times slower; the order is the same
        right = torch.sigmoid(-logits)
        right[..., 0] = torch.sigmoid(logits[..., 0])
        return -right.clamp_(min=torch.finfo(right.dtype).tiny).log_().sum(dim=-1)


def _regression(offsets: Tensor, expected: Tensor, weights: Tensor | None) -> Tensor:
    """Sum of the smooth L1 loss of [P, 4] offsets, each row with its weight."""
    if weights is None:
        return F.smooth_l1_loss(offsets, expected, reduction="sum")
    errors = F.smooth_l1_loss(offsets, expected, reduction="none")
    return (errors.sum(dim=-1) * weights).sum()


def hard_negatives(loss: Tensor, is_candidate: Tensor, wanted: Tensor) -> Tensor:
    """Chooses the candidates with the largest loss in each image.

    Args:
        loss: [B, A].
        is_candidate: [B, A] bool; only these are chosen.
        wanted: [B] how many, >= 0; fractions are rounded up, as in torchvision.

    Returns:
        [B, A] bool; fewer than wanted where candidates run out.
    """
    most = min(math.ceil(wanted.max().item()), loss.shape[1]) if len(wanted) else 0
    ranked, anchors = loss.masked_fill(~is_candidate, -torch.inf).topk(most, dim=1)
    # Not isfinite: a NaN must reach the loss, where it can be seen.
    chosen = (torch.arange(most, device=loss.device) < wanted[:, None]) & (ranked != -torch.inf)
    return torch.zeros_like(is_candidate).scatter_(1, anchors, chosen)


def focal_loss(
    logits: Tensor, labels: Tensor, is_ignored: Tensor, alpha: float, gamma: float
) -> Tensor:
    """Sum of the sigmoid focal loss over all anchors that are not ignored and all columns.

    Args:
        logits: [B, A, K + 1].
        labels: [B, A] int64 in 0..K; 0 is background, whose target is zero in all columns.
        is_ignored: [B, A] bool.
        alpha: weight of the ones; zeros weigh ``1 - alpha``.
        gamma: exponent of the modulating factor.

    Source: Lin et al., arXiv:1708.02002, equation 5.
    """
    # Nearly all targets are zeros: all are summed as zeros first, then the few ones are corrected.
    as_zeros: Tensor = _FocalZeros.apply(logits, gamma)
    zeros = as_zeros.masked_fill(is_ignored, 0.0).sum()
    is_positive = labels > 0
    ones = logits[is_positive].gather(1, labels[is_positive][:, None]).float()
    right_one = torch.sigmoid(-ones) ** gamma * F.softplus(-ones)
    wrong_zero = torch.sigmoid(ones) ** gamma * F.softplus(ones)
    return alpha * right_one.sum() + (1 - alpha) * (zeros - wrong_zero.sum())


class _FocalZeros(torch.autograd.Function):
    """[B, A] unweighted focal loss of logits [B, A, K + 1] whose targets are all zero.

    With p the sigmoid of a logit, ``p**gamma * -log(1 - p)`` summed over the columns. The
    derivative, ``p**gamma * (gamma * (1 - p) * -log(1 - p) + p)``, is computed in the same pass,
    image by image in the processor's cache: autograd on whole batches is several times slower.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, gamma: float) -> Tensor:  # noqa: ANN401
        # in float32 until it is multiplied: float16 holds 6e-8 to 65504, loss scales are larger
        slope = torch.empty_like(logits, dtype=torch.float32)
        loss = torch.empty(logits.shape[:2], dtype=torch.float32, device=logits.device)
        for image, of_image in enumerate(logits):
            of_image = of_image.float()
            p, q = torch.sigmoid(of_image), torch.sigmoid(-of_image)
            log_loss = -q.clamp(min=torch.finfo(q.dtype).tiny).log()
            weight = p**gamma
            loss[image] = (weight * log_loss).sum(dim=-1)
            slope[image] = weight * (gamma * q * log_loss + p)
        ctx.save_for_backward(slope)
        ctx.dtype = logits.dtype
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401
        (slope,) = ctx.saved_tensors
        return (slope * gradient[..., None]).to(ctx.dtype), None


def _row_starts(boxes: Sequence[Tensor], device: torch.device) -> Tensor:
    """[B]: index of each image's first row in the concatenated boxes of the batch."""
    counts = torch.tensor([len(of_image) for of_image in boxes]).to(device, non_blocking=True)
    return counts.cumsum(dim=0) - counts


def average_over_processes(values: Tensor) -> Tensor:
    """The average over the processes of a distributed run, in place; all of them must call it."""
    if (count := process_count()) > 1:
        dist.all_reduce(values)
        values /= count
    return values


def process_count() -> int:
    """The number of processes of a distributed run; 1 in any other."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def _divisor(positives: int, device: torch.device, *, shared: bool) -> Tensor:
    """The batch's positives, at least 1; their average over the processes of a distributed run.

    Not shared in evaluation, where processes may have different numbers of batches.
    """
    count = torch.full((), float(positives), device=device)
    return (average_over_processes(count) if shared else count).clamp(min=1.0)
