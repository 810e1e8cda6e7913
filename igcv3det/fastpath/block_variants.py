"""Equivalent ways to write IGCV3's block without its channel permutation.

Permuting the expanded tensor moves more bytes than the convolutions around it. The permutation P1
can be moved into the weights:

* It commutes with everything between it and the projection: batch normalisation, ReLU6 and the
  depthwise convolution work on each channel alone.
* For the projection only the *set* of channels in each group matters; their order is free.

Three convolutions remain. Each 1x1 is written either dense, with zeros between groups, or grouped:

==========  ==========  ========================================================================
expansion   projection  how
==========  ==========  ========================================================================
dense       dense       the expansion's rows are reordered by P1
dense       grouped     as above, with 1/G2 of the projection's multiply-adds
grouped     dense       channels keep the expansion's order; the projection's columns are reordered
grouped     grouped     the block's narrow input is repeated G2 times; an expansion of G1 G2 groups
                        computes, for each projection group, the channels it takes of each branch
==========  ==========  ========================================================================

The last has the multiply-adds of the paper's block. Its copy of the narrow input is a third (for
G2 = 2, t = 6) of what the permutation copies. Which variant is fastest depends on the library and
on the width of the groups: ``research/block_variants.py`` measures it.

Index arithmetic is done in NumPy, so layouts can also be computed for weights on ``meta`` or in
`FakeTensorMode`; the resulting index tensors are on the device of the block's weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from igcv3det.models.igcv3_block import IGCV3Block
from igcv3det.models.layers import channel_order
from igcv3det.models.ssdlite import ExtraLayer

Written = Literal["dense", "grouped"]
Indices = NDArray[np.int64]
Block = IGCV3Block | ExtraLayer


class BlockVariant(NamedTuple):
    """How the two 1x1 convolutions of a block are written."""

    expansion: Written
    projection: Written


class WeightLayout(NamedTuple):
    """Where the weights of a convolution and of its batch normalisation go.

    Attributes:
        rows: [C'] int64: which original output channel is at each position.
        elements: [C', C / groups, kH, kW] int64: which element of the flattened original weight is
            at each position; one past the last stands for zero.
        groups: of the convolution.
        repeats: how many times the input's channels are repeated.
    """

    rows: Tensor
    elements: Tensor
    groups: int
    repeats: int = 1


class BlockLayout(NamedTuple):
    """The layouts of a block's three convolutions, which include P1 and P2.

    ``expand.rows``: which channel of the original expansion is at each position of the new one.
    """

    expand: WeightLayout
    depthwise: WeightLayout
    project: WeightLayout


class Remapped(nn.Sequential):
    """A convolution, its batch normalisation and ReLU6 with remapped channels.

    Args:
        source: the modules; they are shared, not copied.
        layout: where their weights go.
    """

    def __init__(self, source: nn.Sequential, layout: WeightLayout) -> None:
        super().__init__(*source)
        self.training = source.training  # not train(): single norms may be frozen
        self.groups, self.repeats = layout.groups, layout.repeats
        self.rows: Tensor
        self.elements: Tensor
        self.register_buffer("rows", layout.rows, persistent=False)
        self.register_buffer("elements", layout.elements, persistent=False)


def block_layout(block: Block, variant: BlockVariant) -> BlockLayout:
    """The layout of a block in a variant, for any groups, super-channels, ReLU placement and P2.

    Where a variant is impossible, the nearest possible one is taken: P2 makes the projection dense;
    super-channels that fill the cells (projection group, branch) unevenly make the expansion dense.
    """
    expand, depthwise, project = block_convs(block)
    first, second = expand.groups, project.groups
    p1 = channel_order(block.p1, expand.out_channels)
    p2 = channel_order(block.p2, project.out_channels)
    is_grouped = variant.projection == "grouped" and isinstance(block.p2, nn.Identity)
    rows, groups, repeats = p1, 1, 1
    if variant.expansion == "grouped":
        natural, cells = np.arange(len(p1)), _cells(p1, first, second)
        if not is_grouped or _same_groups(p1, natural, second):
            rows, groups = natural, first
        elif cells is not None:
            rows, groups, repeats = cells, first * second, second
    # every group of a grouped variant lies within one of the original's
    own = _own_elements(expand) if groups >= first else dense_elements(expand)
    places = np.argsort(p1)[rows]  # where P1 would have put each channel
    columns = dense_elements(project)[:, places]
    columns = _diagonal_blocks(columns, second) if is_grouped else columns[p2]
    device = expand.weight.device
    return BlockLayout(
        _layout(rows, own[rows], device, groups, repeats),
        _layout(places, _own_elements(depthwise)[places], device, depthwise.groups),
        _layout(p2, columns, device, second if is_grouped else 1),
    )


def block_convs(block: Block) -> tuple[nn.Conv2d, nn.Conv2d, nn.Conv2d]:
    """Expansion, depthwise convolution and projection of a block."""
    expand, depthwise, project = (
        cast(nn.Conv2d, cast(nn.Sequential, block.get_submodule(name))[0]) for name in block.PARTS
    )
    return expand, depthwise, project


def grouped_blocks(module: nn.Module) -> Iterator[Block]:
    """All blocks and extra layers inside a module that have an expansion and grouped 1x1s."""
    for block in module.modules():
        if isinstance(block, (IGCV3Block, ExtraLayer)):
            has_expansion = isinstance(block.get_submodule(block.PARTS[0]), nn.Sequential)
            if has_expansion and any(conv.groups > 1 for conv in block_convs(block)[::2]):
                yield block


def gather_weight(weight: Tensor, elements: Tensor) -> Tensor:
    """A weight rearranged by a layout's ``elements``; differentiable."""
    with_zero = torch.cat([weight.reshape(-1), weight.new_zeros(1)])
    return with_zero.index_select(0, elements.reshape(-1)).reshape(elements.shape)


def _layout(
    rows: Indices, elements: Indices, device: torch.device, groups: int, repeats: int = 1
) -> WeightLayout:
    return WeightLayout(
        torch.from_numpy(rows).to(device), torch.from_numpy(elements).to(device), groups, repeats
    )


def _same_groups(one: Indices, other: Indices, groups: int) -> bool:
    """Whether each group of one order holds the channels of that group of the other order."""
    return np.array_equal(np.sort(one.reshape(groups, -1)), np.sort(other.reshape(groups, -1)))


def _cells(p1: Indices, first: int, second: int) -> Indices | None:
    """P1's order sorted by projection group, then by branch; None if cells differ in size."""
    branches = p1 // (len(p1) // first)
    cells = [
        channels[of == branch]
        for channels, of in zip(np.split(p1, second), np.split(branches, second), strict=True)
        for branch in range(first)
    ]
    return np.concatenate(cells) if len({len(cell) for cell in cells}) == 1 else None


def _own_elements(conv: nn.Conv2d) -> Indices:
    """[C', C / groups, kH, kW]: the elements of a weight in their own order."""
    return np.arange(conv.weight.numel()).reshape(conv.weight.shape)


def dense_elements(conv: nn.Conv2d) -> Indices:
    """[C', C, 1, 1]: the elements of a grouped 1x1 weight in a dense one."""
    own = _own_elements(conv).reshape(conv.groups, -1, conv.weight.shape[1])
    blocks = np.full((conv.groups, own.shape[1], conv.groups, own.shape[2]), own.size)
    for group in range(conv.groups):
        blocks[group, :, group] = own[group]
    return blocks.reshape(conv.out_channels, conv.in_channels, 1, 1)


def _diagonal_blocks(dense: Indices, groups: int) -> Indices:
    """[C', C / groups, 1, 1]: the blocks on the diagonal of [C', C, 1, 1], one below the other."""
    width = dense.shape[1] // groups
    return np.concatenate(
        [rows[:, i * width : (i + 1) * width] for i, rows in enumerate(np.split(dense, groups))]
    )
