"""Class-wise NMS by torchvision's operator, without importing torchvision.

``import torchvision`` takes as long as PyTorch itself: it imports the compiler, for operators of
its own. The operator alone is in a shared library, which PyTorch loads in milliseconds.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

NMS = Callable[[Tensor, Tensor, float], Tensor]
# As in torchvision: the elements of ``boxes`` up to which one call for all classes is faster
_ELEMENTS_AT_ONCE = {"cpu": 4_000}
_ELEMENTS_AT_ONCE_ON_GPU = 100_000


def class_wise_nms(boxes: Tensor, scores: Tensor, labels: Tensor, iou_threshold: float) -> Tensor:
    """Greedy NMS among the boxes of each class; equals ``torchvision.ops.batched_nms``.

    Args:
        boxes: [N, 4] xyxy.
        scores: [N].
        labels: [N] classes.
        iou_threshold: a box is dropped if its IoU with one of higher score is above.

    Returns:
        [M] int64 indices of the boxes that are kept, in descending order of score.
    """
    limit = _ELEMENTS_AT_ONCE.get(boxes.device.type, _ELEMENTS_AT_ONCE_ON_GPU)
    nms = _operator()
    if not boxes.numel():
        return torch.zeros(0, dtype=torch.int64, device=boxes.device)
    if boxes.numel() <= limit:
        # Every class in a place of its own, so that boxes of two classes never overlap
        shift = labels.to(boxes) * (boxes.max() + 1)
        return nms(boxes + shift[:, None], scores, iou_threshold)
    kept = [
        rows[nms(boxes[rows], scores[rows], iou_threshold)]
        for label in torch.unique(labels)
        for rows in [torch.nonzero(labels == label)[:, 0]]
    ]
    indices = torch.cat(kept).sort().values
    return indices[scores[indices].sort(descending=True).indices]


@functools.cache
def _operator() -> NMS:
    """Torchvision's operator; its package is imported only if the library cannot be found."""
    spec = importlib.util.find_spec("torchvision")
    folders = spec.submodule_search_locations if spec else None
    for folder in folders or ():
        for library in sorted(Path(folder).glob("_C*.so")):
            try:
                torch.ops.load_library(library)  # type: ignore[no-untyped-call]
            except OSError:
                continue
            if hasattr(torch.ops.torchvision, "nms"):
                operator: NMS = torch.ops.torchvision.nms
                return operator
    imported: NMS = importlib.import_module("torchvision.ops").nms
    return imported
