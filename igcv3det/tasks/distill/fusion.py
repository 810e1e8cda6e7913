"""One set of boxes from several detectors: weighted boxes fusion.

Where detectors agree on an object, their boxes are averaged by score and the object is believed;
where only some see it, its score is cut down to their share. Unlike suppression nothing is thrown
away, so two detectors that go wrong in different ways are together better than either.

Source: Solovyev, Wang, Gabruseva, "Weighted boxes fusion: Ensembling boxes from different object
detection models", arXiv 1910.13302, section 3. Its authors' package has not been released since
2022 and needs numba and pandas, so the sixty lines are here; a test holds them to figures worked
out by hand.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from igcv3det.detection.iou import box_iou
from igcv3det.structures import Detections


def fuse(
    found: Sequence[Detections], iou_threshold: float = 0.6, score_threshold: float = 0.01
) -> Detections:
    """Fuses what several detectors found in one image, class by class.

    Args:
        found: one set for each detector, in pixels of the same image, with the same labels.
        iou_threshold: boxes of one class that overlap more are taken for one object.
        score_threshold: weaker boxes are left out before, and weaker results after.

    Returns:
        Best first. A box is the mean of its members weighted by score, its score their mean score
        times the share of the detectors that saw it.

    Raises:
        ValueError: no detector.
    """
    if not found:
        raise ValueError("fusion needs the boxes of at least one detector")
    boxes = torch.cat([own.boxes for own in found])
    scores = torch.cat([own.scores for own in found])
    labels = torch.cat([own.labels for own in found])
    sources = torch.cat([torch.full_like(own.labels, i) for i, own in enumerate(found)])
    order = scores.argsort(descending=True, stable=True)
    order = order[scores[order] >= score_threshold]
    fused_boxes, fused_scores, fused_labels = [], [], []
    for label in sorted(set(labels[order].tolist())):
        rows = order[labels[order] == label]
        for cluster in _clusters(boxes[rows], scores[rows], iou_threshold):
            members = rows[cluster]
            weights = scores[members]
            fused_boxes.append((boxes[members] * weights[:, None]).sum(dim=0) / weights.sum())
            share = len(set(sources[members].tolist())) / len(found)
            fused_scores.append(weights.mean() * share)
            fused_labels.append(label)
    if not fused_boxes:
        return Detections.empty(found[0].categories)
    all_scores = torch.stack(fused_scores)
    best = all_scores.argsort(descending=True, stable=True)
    best = best[all_scores[best] >= score_threshold]
    return Detections(
        torch.stack(fused_boxes)[best],
        all_scores[best],
        torch.tensor(fused_labels)[best],
        found[0].categories,
    )


def _clusters(boxes: Tensor, scores: Tensor, iou_threshold: float) -> list[list[int]]:
    """Rows of boxes, best first, that belong to one object: each joins the nearest fused box."""
    clusters: list[list[int]] = []
    fused: list[Tensor] = []
    for row in range(len(boxes)):
        if fused:
            overlaps = box_iou(boxes[row][None], torch.stack(fused))[0]
            nearest = int(overlaps.argmax())
            if overlaps[nearest] > iou_threshold:
                clusters[nearest].append(row)
                members = clusters[nearest]
                weights = scores[members][:, None]
                fused[nearest] = (boxes[members] * weights).sum(dim=0) / weights.sum()
                continue
        clusters.append([row])
        fused.append(boxes[row])
    return clusters
