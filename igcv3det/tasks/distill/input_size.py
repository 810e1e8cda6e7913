"""A student with another input size than its teacher's.

Each network sees the same image at its own size. Anchors are shares of the image, so that the same
anchor of both stands for the same box; where the maps have other numbers of cells, the teacher's
outputs are interpolated at the student's cells.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from igcv3det.detection.anchors import cell_shapes
from igcv3det.detector import SSDLite
from igcv3det.structures import HeadOutputs


def at_size_of(side: int, own: int, other: int) -> int:
    """The side of an image for a network of size ``own``, if ``side`` is that for ``other``."""
    return round(side * own / other)


def resized(images: Tensor, own: int, other: int) -> Tensor:
    """Images [B, 3, S, S] for a network of size ``other`` at the size for one of ``own``.

    Bilinear without antialiasing, as TensorFlow resizes; the same tensor where both are equal.
    """
    side = at_size_of(images.shape[-1], own, other)
    return _bilinear(images, (side, side))


def resample_map(x: Tensor, side: int, own: int) -> Tensor:
    """A feature map [B, C, H, W] of images of ``side`` at the cells that images of ``own`` have.

    Its stride is the power of two by which the network, which rounds up, makes ``side`` H cells.
    """
    stride = 2 ** round(math.log2(side / x.shape[-1]))
    cells = math.ceil(own / stride)
    return _bilinear(x, (cells, cells))


def resample_outputs(
    outputs: HeadOutputs,
    anchors_per_cell: Sequence[int],
    sizes: Sequence[tuple[int, int]],
    own: Sequence[tuple[int, int]],
) -> HeadOutputs:
    """Head outputs at the anchors of maps of other sizes.

    Logits are interpolated between cells. So are offsets, which interpolates the centres of the
    boxes, as anchors' centres are linear in the cells.

    Args:
        outputs: raw.
        anchors_per_cell: of each map.
        sizes: (height, width) of each map in cells.
        own: the same of the maps to interpolate at.
    """
    counts = [count * h * w for count, (h, w) in zip(anchors_per_cell, sizes, strict=True)]

    def resampled(rows: Tensor) -> Tensor:
        levels = zip(torch.split(rows, counts, dim=1), sizes, own, strict=True)
        return torch.cat([_resample_rows(level, *pair) for level, *pair in levels], dim=1)

    return HeadOutputs(resampled(outputs.logits), resampled(outputs.offsets))


def _resample_rows(rows: Tensor, size: tuple[int, int], own: tuple[int, int]) -> Tensor:
    """[B, H * W * A, columns] to [B, H' * W' * A, columns]."""
    if size == own:
        return rows
    columns = rows.shape[-1]
    cells = rows.reshape(rows.shape[0], *size, -1).permute(0, 3, 1, 2)
    moved = _bilinear(cells, own).permute(0, 2, 3, 1)
    return moved.reshape(rows.shape[0], -1, columns)


def _bilinear(x: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(x.shape[-2:]) == size:
        return x
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


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
