"""A student with another input size than its teacher's.

Each network sees the same image at its own size, and anchors are shares of the image. On maps of as
many cells the same anchor of both therefore stands for the same box. Maps of other numbers of cells
are compared with those of the teacher run at the student's size: interpolated between the teacher's
cells, the scores of small objects would be blurred.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from igcv3det.detection.anchors import cell_shapes
from igcv3det.detector import SSDLite
from igcv3det.structures import HeadOutputs


def resized(images: Tensor, own: int, other: int) -> Tensor:
    """Images [B, 3, S, S] for a network of size ``other`` at the size for one of ``own``.

    Bilinear without antialiasing, as TensorFlow resizes; the same tensor where both are equal.
    """
    if own == other:
        return images
    side = round(images.shape[-1] * own / other)
    return F.interpolate(images, size=(side, side), mode="bilinear", align_corners=False)


def teacher_at_size(teacher: SSDLite, size: int) -> SSDLite:
    """A copy of the teacher for another input size, its box regression adapted to it."""
    config = teacher.config
    copied = SSDLite(replace(config, image_size=size), teacher.categories)
    copied.load_state_dict(teacher.state_dict())
    adapt_offsets(copied, config.image_size)
    return copied.to(next(teacher.parameters()).device)


def merge_outputs(
    own: HeadOutputs,
    teacher: HeadOutputs,
    anchors_per_cell: Sequence[int],
    sizes: Sequence[Sequence[tuple[int, int]]],
) -> HeadOutputs:
    """The teacher's outputs on maps of as many cells as the student's, elsewhere those in ``own``.

    Args:
        own: of the teacher at the student's size.
        teacher: of the teacher at its own size.
        anchors_per_cell: of each map.
        sizes: (height, width) of each map in cells, of both.
    """
    first, second = (
        [count * h * w for count, (h, w) in zip(anchors_per_cell, maps, strict=True)]
        for maps in sizes
    )

    def merged(a: Tensor, b: Tensor) -> Tensor:
        pairs = zip(torch.split(a, first, dim=1), torch.split(b, second, dim=1), strict=True)
        return torch.cat([y if x.shape == y.shape else x for x, y in pairs], dim=1)

    return HeadOutputs(merged(own.logits, teacher.logits), merged(own.offsets, teacher.offsets))


@torch.no_grad()
def adapt_offsets(detector: SSDLite, trained: int) -> None:
    """Corrects the box regression of a detector whose weights are of another input size, in place.

    A convolution knows pixels and cells, not shares of the image. Trained at another size it
    predicts boxes of the pixels that its anchors had then, seen from where its maps' cells lay in
    the image then, which depends on the sides' parity (`cell_shift`). The last 1x1 of the
    regression undoes both: rows of the centres take the ratio of the anchors and the shift, the
    biases of width and height the logarithm of the ratio.

    Args:
        detector: with weights of a detector of the same anchors.
        trained: side of the input that the weights were trained at, pixels.
    """
    config = detector.config
    size, ratio = config.image_size, trained / config.image_size
    shapes = cell_shapes(config.anchors, len(detector.feature_sizes))
    for level, layer in enumerate(detector.head.regression):
        assert isinstance(layer, nn.Sequential)
        last = layer[-1]
        assert isinstance(last, nn.Conv2d)
        assert last.bias is not None
        cells = detector.feature_sizes[level][0], detector.feature_sizes_at(trained)[level][0]
        shift = cell_shift(size, cells[0], config.padding) - cell_shift(
            trained, cells[1], config.padding
        )
        weight, bias = last.weight.view(-1, 4, *last.weight.shape[1:]), last.bias.view(-1, 4)
        sides = torch.tensor(shapes[level], dtype=bias.dtype, device=bias.device) * size
        centre, extent = config.variances[:2], config.variances[2:]
        weight[:, :2] *= ratio
        bias[:, :2] = bias[:, :2] * ratio + shift / (sides * bias.new_tensor(centre))
        bias[:, 2:] += math.log(ratio) / bias.new_tensor(extent)


def cell_shift(side: int, cells: int, padding: str) -> float:
    """How far the centre of what a cell sees lies right of its anchors' centre, mean over a map.

    Each halving by a 3x3 convolution of stride 2 reads around pixel 2 i, or around 2 i + 1 with
    TensorFlow's padding of an even side (it then pads at the end only).

    Args:
        side: of the image, pixels.
        cells: of the map's side.
        padding: ``config.padding``.

    Returns:
        Pixels.

    Raises:
        ValueError: no number of halvings makes that many cells.

    Example:
        >>> cell_shift(256, 16, "same"), cell_shift(256, 16, "symmetric")
        (7.5, -7.5)
    """
    left, stride, size = 0.5, 1, side
    while size > cells:
        left += stride if padding == "same" and size % 2 == 0 else 0
        stride, size = 2 * stride, math.ceil(size / 2)
    if size != cells:
        raise ValueError(f"halving {side} pixels does not make {cells} cells")
    middle = (cells - 1) / 2
    return left + stride * middle - side / 2
