"""Matching of anchors to ground-truth boxes.

Liu et al., SSD, arXiv:1512.02325, section 2.2 "Matching strategy": every box is matched to its best
anchor, then every other anchor to the box that it overlaps enough.

Differs from torchvision's ``SSDMatcher`` twice. Two boxes with the same best anchor get an anchor
each, the pair of higher IoU first; in torchvision the later box overwrites the earlier. A box that
overlaps no anchor, or has no area, gets none; in torchvision it gets anchor 0.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from igcv3det.detection.iou import box_area, box_intersection, box_iou

BACKGROUND = -1
"""Value of an anchor that is matched to no box."""
IGNORED = -2
"""Value of an anchor in a crowd region, which is neither object nor background."""


def match(
    anchors: Tensor,
    boxes: Tensor,
    iou_threshold: float,
    crowds: Tensor | None = None,
    crowd_ioa: float = 0.5,
) -> Tensor:
    """Assigns to every anchor of an image a ground-truth box, background, or nothing at all.

    First each box gets an anchor of its own: pairs are taken in the order of descending IoU over
    all boxes and anchors (equal IoU: the earlier box, then the earlier anchor), IoU 0 never. Then
    every other anchor is matched to the box of the highest IoU, if that is at least
    ``iou_threshold``. Of the remaining anchors, those with more than ``crowd_ioa`` of their area in
    a crowd region are ignored.

    Args:
        anchors: [A, 4] xyxy, pixels of the network input.
        boxes: [N, 4] xyxy, same frame; N may be 0.
        iou_threshold: in (0, 1]; 0.5 in the paper.
        crowds: [M, 4] xyxy, same frame; None is no crowds.
        crowd_ioa: intersection over the anchor's area.

    Returns:
        [A] int64: index into ``boxes``, `BACKGROUND` or `IGNORED`.

    Source: Liu et al., SSD, arXiv:1512.02325, section 2.2, "Matching strategy".

    Example:
        >>> anchors = torch.tensor([[0.0, 0.0, 10.0, 10.0], [50.0, 50.0, 60.0, 60.0]])
        >>> match(anchors, torch.tensor([[1.0, 1.0, 30.0, 30.0]]), iou_threshold=0.5)
        tensor([ 0, -1])
    """
    return match_batch(
        anchors, [boxes], iou_threshold, None if crowds is None else [crowds], crowd_ioa
    )[0]


def match_batch(
    anchors: Tensor,
    boxes: Sequence[Tensor],
    iou_threshold: float,
    crowds: Sequence[Tensor] | None = None,
    crowd_ioa: float = 0.5,
) -> Tensor:
    """`match` for the images of a batch, which share the anchors.

    Args:
        anchors: [A, 4] xyxy, pixels of the network input.
        boxes: B tensors [N_i, 4] xyxy, same frame.
        iou_threshold: as in `match`.
        crowds: B tensors [M_i, 4] xyxy, same frame; None is no crowds.
        crowd_ioa: as in `match`.

    Returns:
        [B, A] int64: index into that image's boxes, `BACKGROUND` or `IGNORED`.
    """
    overlap = _image_by_image if anchors.device.type == "cpu" else _all_at_once
    nearest, overlaps, best = overlap([of_image.to(anchors) for of_image in boxes], anchors)
    matched = torch.where(nearest.iou >= iou_threshold, nearest.box, BACKGROUND)
    image_index, box_index, anchor_index = _claims_of_batch(overlaps, best)
    matched[image_index, anchor_index] = box_index
    for image, regions in enumerate(crowds or ()):
        if len(regions):
            shared = box_intersection(regions.to(anchors), anchors).amax(dim=0)
            is_in_crowd = shared > crowd_ioa * box_area(anchors)
            matched[image].masked_fill_(is_in_crowd & (matched[image] == BACKGROUND), IGNORED)
    return matched


class _Nearest(NamedTuple):
    """The highest IoU of each anchor, and the box that it is with; both [B, A]."""

    iou: Tensor
    box: Tensor


_Overlaps = tuple[_Nearest, Sequence[Tensor], list[tuple[float, int]]]
"""Each anchor's nearest box; B tensors [N_i, A] of IoU; each box's largest IoU and its anchor."""


def _image_by_image(boxes: Sequence[Tensor], anchors: Tensor) -> _Overlaps:
    """For CPUs: the overlaps of one image fit the processor's cache."""
    overlaps = [box_iou(of_image, anchors) for of_image in boxes]
    iou = torch.zeros(len(boxes), len(anchors), device=anchors.device, dtype=anchors.dtype)
    box = torch.zeros(iou.shape, dtype=torch.int64, device=anchors.device)
    for image, overlap in enumerate(overlaps):
        if len(overlap):
            iou[image], box[image] = overlap.max(dim=0)
    values, indices = torch.cat([_best(overlap) for overlap in overlaps], dim=1)
    best = list(zip(values.tolist(), map(int, indices.tolist()), strict=True))
    return _Nearest(iou, box), overlaps, best


def _all_at_once(boxes: Sequence[Tensor], anchors: Tensor) -> _Overlaps:
    """For GPUs: few kernel launches and one transfer; short rows are padded."""
    # with one more box, so that there is a row even if no image has a box
    padded = pad_sequence([*boxes, anchors.new_zeros(1, 4)], batch_first=True)[:-1]
    most = padded.shape[1]
    flat = box_iou(padded.reshape(-1, 4), anchors)
    overlap = flat.reshape(len(boxes), most, -1)
    values, indices = _best(flat).reshape(2, len(boxes), most).tolist()
    best = [
        (value, int(anchor))
        for of_image, *columns in zip(boxes, values, indices, strict=True)
        for value, anchor in zip(*(column[: len(of_image)] for column in columns), strict=True)
    ]
    pairs = zip(overlap, boxes, strict=True)
    return _Nearest(*overlap.max(dim=1)), [o[: len(of_image)] for o, of_image in pairs], best


def _claims_of_batch(overlaps: Sequence[Tensor], best: Sequence[tuple[float, int]]) -> Tensor:
    """[3, claims] int64: image, box and anchor of every box's own anchor.

    Args:
        overlaps: B tensors [N_i, A] of IoU.
        best: the largest IoU of each box of the batch, and its first anchor.
    """
    claims, start = [], 0
    for image, overlap in enumerate(overlaps):
        of_boxes = best[start : start + len(overlap)]
        claims += [(image, box, anchor) for box, anchor in _claims(overlap, of_boxes)]
        start += len(overlap)
    rows = torch.tensor(claims, dtype=torch.int64).reshape(-1, 3).T
    return rows.to(overlaps[0].device, non_blocking=True) if overlaps else rows


def _best(overlap: Tensor) -> Tensor:
    """[2, N]: each box's largest IoU and its first anchor (a float, exact below 2**24)."""
    values, indices = overlap.max(dim=1)
    return torch.stack([values, indices.to(values.dtype)])


def _claims(overlap: Tensor, best: Sequence[tuple[float, int]]) -> list[tuple[int, int]]:
    """One distinct anchor for each box, greedily by descending IoU over the whole matrix.

    The result is that of repeatedly taking the largest entry and removing its row and column. Here
    the matrix is not searched: a box's next anchor is looked up only if another box has taken the
    previous one.

    Args:
        overlap: [N, A] IoU.
        best: each box's largest IoU and its first anchor.

    Returns:
        (box, anchor) pairs; a box without a free overlapping anchor is absent.
    """
    queue = [(-iou, box, anchor) for box, (iou, anchor) in enumerate(best) if iou > 0]
    heapq.heapify(queue)
    claims: dict[int, int] = {}
    others: dict[int, Iterator[tuple[float, int]]] = {}
    while queue:
        _, box, anchor = heapq.heappop(queue)
        if anchor not in claims:
            claims[anchor] = box
            continue
        if box not in others:
            others[box] = _best_anchors(overlap[box], len(best))
        after = next((pair for pair in others[box] if pair[1] not in claims), None)
        if after is not None:
            heapq.heappush(queue, (after[0], box, after[1]))
    return [(box, anchor) for anchor, box in claims.items()]


def _best_anchors(overlap: Tensor, number: int) -> Iterator[tuple[float, int]]:
    """(-IoU, anchor) of a box's anchors of highest IoU, best first; of equal ones the earlier.

    They are as many as there are boxes, and those equal to the last: the other boxes take one
    anchor each.
    """
    lowest = overlap.topk(min(number, len(overlap))).values[-1]
    anchors = torch.nonzero((overlap >= lowest) & (overlap > 0))[:, 0]
    return iter(sorted(zip((-overlap[anchors]).tolist(), anchors.tolist(), strict=True)))
