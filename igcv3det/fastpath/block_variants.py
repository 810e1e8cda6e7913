"""IGCV3's block without its permutation: where each weight goes in a faster form of the same map.

Permuting the expanded tensor moves more bytes than the convolutions around it. It need not run:

* It commutes with what stands between it and the projection (batch normalisation, ReLU6 and the
  depthwise convolution work on each channel alone), so it can be carried out on weights.
* Of the projection only the *set* of channels in each group matters; their order is free.

What is left are three convolutions, of which each 1x1 may be written out dense, with zeros where
groups do not meet, or stay grouped:

==========  ==========  ========================================================================
expansion   projection  how
==========  ==========  ========================================================================
dense       dense       P1 is an order of the expansion's rows
dense       grouped     the same, with a half (for G2 = 2) of the projection's multiply-adds
grouped     dense       channels stay as the expansion leaves them; the projection's columns move
grouped     grouped     the block's narrow input is repeated G2 times, and an expansion of G1 G2
                        groups computes for each projection group what it takes of each branch
==========  ==========  ========================================================================

The last has the multiply-adds of the paper's block and costs a copy of the narrow input, a third
(for G2 = 2, t = 6) of the tensor that the permutation copies. Which of the four is fastest depends
on the library and on the width of the groups: ``research/block_variants.py`` measures it.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, cast

import torch
from torch import Tensor, nn

from igcv3det.models.igcv3 import IGCV3Block
from igcv3det.models.layers import ChannelPermutation

Written = Literal["dense", "grouped"]


class BlockVariant(NamedTuple):
    """How the two 1x1 convolutions of a block are written."""

    expansion: Written
    projection: Written


class WeightLayout(NamedTuple):
    """Where the weights of a convolution and of its normalisation go.

    Attributes:
        rows: [C'] int64: which output channel of the original stands at each place.
        elements: [C', C / groups, kH, kW] int64: which element of the original weight, flattened,
            stands at each place; one past the last is a zero.
        groups: of the convolution.
        repeats: how many times the input's channels are repeated.
    """

    rows: Tensor
    elements: Tensor
    groups: int
    repeats: int = 1


class BlockLayout(NamedTuple):
    """The layouts of a block's three convolutions; P1 and P2 are part of them.

    ``expand.rows`` says which channel of the original expansion stands at each place of the new.
    """

    expand: WeightLayout
    depthwise: WeightLayout
    project: WeightLayout


class Remapped(nn.Sequential):
    """A convolution, its batch normalisation and its ReLU6, to be executed in a layout.

    Args:
        source: the modules to execute; they are shared, not copied.
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


def block_layout(block: IGCV3Block, form: BlockVariant) -> BlockLayout:
    """Works out a form of a block, whatever its groups, super-channels and ReLU, with P2 or not.

    Where a form cannot be, the next one that can is taken: P2 makes the projection dense, and
    super-channels that fill the cells (projection group, branch) unevenly make the expansion dense.
    """
    expand, depthwise, project = block_convs(block)
    first, second = expand.groups, project.groups
    p1, p2 = _order(block.p1, expand.out_channels), _order(block.p2, project.out_channels)
    is_grouped = form.projection == "grouped" and isinstance(block.p2, nn.Identity)
    rows, groups, repeats = p1, 1, 1
    if form.expansion == "grouped":
        natural, cells = torch.arange(len(p1)), _cells(p1, first, second)
        if not is_grouped or _hold_the_same(p1, natural, second):
            rows, groups = natural, first
        elif cells is not None:
            rows, groups, repeats = cells, first * second, second
    # every group of a grouped form lies within one of the original's
    own = _own_elements(expand) if groups >= first else _dense_elements(expand)
    places = torch.argsort(p1)[rows]  # where P1 would have put each channel
    columns = _dense_elements(project)[:, places]
    if is_grouped:
        projection = WeightLayout(p2, within_groups(columns, second), second)
    else:
        projection = WeightLayout(p2, columns[p2], 1)
    return BlockLayout(
        WeightLayout(rows, own[rows], groups, repeats),
        WeightLayout(places, _own_elements(depthwise)[places], depthwise.groups),
        projection,
    )


def block_convs(block: IGCV3Block) -> tuple[nn.Conv2d, nn.Conv2d, nn.Conv2d]:
    """Expansion, depthwise convolution and projection of a block."""
    expand, depthwise, project = (
        cast(nn.Conv2d, part[0]) for part in (block.expand, block.depthwise, block.project)
    )
    return expand, depthwise, project


def gather_weight(weight: Tensor, elements: Tensor) -> Tensor:
    """A weight as a layout's ``elements`` have it; autograd finds the way back."""
    with_zero = torch.cat([weight.reshape(-1), weight.new_zeros(1)])
    return with_zero.index_select(0, elements.reshape(-1)).reshape(elements.shape)


def _order(permutation: nn.Module, channels: int) -> Tensor:
    if isinstance(permutation, ChannelPermutation):
        return permutation.index
    return torch.arange(channels)


def _hold_the_same(one: Tensor, other: Tensor, groups: int) -> bool:
    """Whether each group of an order holds the channels of that group of the other order."""
    pairs = zip(one.chunk(groups), other.chunk(groups), strict=True)
    return all(torch.equal(a.sort().values, b.sort().values) for a, b in pairs)


def _cells(p1: Tensor, first: int, second: int) -> Tensor | None:
    """P1's order sorted by projection group, then by branch; None if cells differ in size."""
    branches = p1 // (len(p1) // first)
    cells = [
        channels[of == branch]
        for channels, of in zip(p1.chunk(second), branches.chunk(second), strict=True)
        for branch in range(first)
    ]
    return torch.cat(cells) if len({len(cell) for cell in cells}) == 1 else None


def _own_elements(conv: nn.Conv2d) -> Tensor:
    """[C', C / groups, kH, kW]: the elements of a weight as they are."""
    return torch.arange(conv.weight.numel()).reshape(conv.weight.shape)


def _dense_elements(conv: nn.Conv2d) -> Tensor:
    """[C', C, 1, 1]: the elements of a grouped 1x1 weight in a dense one."""
    own = _own_elements(conv).reshape(conv.groups, -1, conv.weight.shape[1])
    blocks = torch.full((conv.groups, own.shape[1], conv.groups, own.shape[2]), own.numel())
    for group in range(conv.groups):
        blocks[group, :, group] = own[group]
    return blocks.reshape(conv.out_channels, conv.in_channels, 1, 1)


def within_groups(dense: Tensor, groups: int) -> Tensor:
    """[C', C / groups, 1, 1]: the blocks on the diagonal of [C', C, 1, 1], one below the other."""
    width = dense.shape[1] // groups
    return torch.cat(
        [rows[:, i * width : (i + 1) * width] for i, rows in enumerate(dense.chunk(groups))]
    )
