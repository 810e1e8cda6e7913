"""Weighted boxes fusion: one set of boxes from several detectors.

Boxes of one object are averaged, weighted by score. The score of the result is the mean score times
the share of the detectors that found the object. Unlike NMS, no box is discarded.

Source: Solovyev, Wang, Gabruseva, "Weighted boxes fusion: Ensembling boxes from different object
detection models", arXiv 1910.13302, section 3. Its authors' package has not been released since
2022 and needs numba and pandas; this implementation is tested against results computed by hand.
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
    """Fuses the detections of several detectors in one image, class by class.

    Args:
        found: the detections of each detector, in pixels of the same image, with the same labels.
        iou_threshold: boxes of one class with a higher IoU are one object.
        score_threshold: boxes below it are dropped before fusion, and results after it.

    Returns:
        In descending order of score.

    Raises:
        ValueError: ``found`` is empty.
    """
    if not found:
        raise ValueError("fusion needs the boxes of at least one detector")
    boxes = torch.cat([own.boxes for own in found])
    scores = torch.cat([own.scores for own in found])
    labels = torch.cat([own.labels for own in found])
    sources = torch.arange(len(found)).repeat_interleave(torch.tensor([len(own) for own in found]))
    order = scores.argsort(descending=True, stable=True)
    order = order[scores[order] >= score_threshold]
    fused_boxes, fused_scores, fused_labels = [], [], []
    for label in sorted(set(labels[order].tolist())):
        rows = order[labels[order] == label]
        for cluster in _clusters(boxes[rows], scores[rows], iou_threshold):
            members = rows[cluster]
            weights = scores[members]
            fused_boxes.append((boxes[members] * weights[:, None]).sum(dim=0) / weights.sum())
            fused_scores.append(weights.mean() * len(set(sources[members].tolist())) / len(found))
            fused_labels.append(label)
    if not fused_boxes:
        return Detections.empty(found[0].categories)
    boxes, scores = torch.stack(fused_boxes), torch.stack(fused_scores)
    best = scores.argsort(descending=True, stable=True)
    best = best[scores[best] >= score_threshold]
    categories, labels = found[0].categories, torch.tensor(fused_labels)
    return Detections(boxes[best], scores[best], labels[best], categories)


def _clusters(boxes: Tensor, scores: Tensor, iou_threshold: float) -> list[list[int]]:
    """Rows of ``boxes`` by object; each box joins the fused box with the highest IoU."""
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
