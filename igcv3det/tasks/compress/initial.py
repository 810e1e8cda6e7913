"""Initial weights of a replacement, from the weights of what it replaces and the images' features.

Narrower blocks keep the most useful hidden channels; grouped blocks get every hidden channel in the
cell (expansion group, projection group) that keeps most of it; the last layer is fitted to what the
original computes.
"""

from __future__ import annotations

import dataclasses
from typing import cast

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.nn import functional as F

from igcv3det.fastpath.block_variants import Block, block_convs
from igcv3det.models.layers import channel_order
from igcv3det.tasks.compress.folded import Affine, FoldedBlock, cells_of, fold, set_folded, undone
from igcv3det.tasks.compress.least_squares import cells, eliminate, fit, moments

_CELLS = 60_000  # rows of a fit: more change little


@dataclasses.dataclass(frozen=True)
class Source:
    """What a replacement is made from.

    Attributes:
        folded: the original block, dense.
        hidden: [B, E, h, w], its depthwise convolution's output after ReLU6.
        target: [B, C', h, w], the block's output before the shortcut.
        inputs: [B, C, H, W], of the expansion; of the depthwise convolution if there is none.
        metric: [C', C'], Fisher information about the target.
    """

    folded: FoldedBlock
    hidden: Tensor
    target: Tensor
    inputs: Tensor
    metric: Tensor


def sample(x: Tensor) -> Tensor:
    """Rows [N, C] of the cells of a feature map, at most `_CELLS`."""
    rows = cells(x)
    if len(rows) <= _CELLS:
        return rows
    chosen = np.random.default_rng(0).choice(len(rows), _CELLS, replace=False)
    return rows[torch.from_numpy(np.sort(chosen))]


def set_projection(sequence: nn.Module, hidden: Tensor, target: Tensor) -> None:
    """Fits a projection, grouped or not, to rows of its input and of the output wanted, in place.

    Args:
        sequence: convolution and norm, or a bare convolution.
        hidden: [N, E], in the order in which the projection reads.
        target: [N, C'].
    """
    conv = sequence if isinstance(sequence, nn.Conv2d) else cast(nn.Sequential, sequence)[0]
    groups = cast(nn.Conv2d, conv).groups
    fits = [
        fit(x, y)
        for x, y in zip(hidden.chunk(groups, dim=1), target.chunk(groups, dim=1), strict=True)
    ]
    weight, bias = (torch.cat(parts) for parts in zip(*fits, strict=True))
    set_folded(sequence, Affine(weight[:, :, None, None], bias))


def narrow(block: Block, source: Source, stem: nn.Module | None = None) -> None:
    """Gives a narrower dense block the most useful hidden channels of the original, in place.

    Args:
        block: of the replacement.
        source: of the original; with a stem ``source.folded.expand`` is the stem's.
        stem: of the replacement, if its output is the block's hidden layer.
    """
    hidden, target = sample(source.hidden), sample(source.target)
    depthwise = cast(nn.Conv2d, cast(nn.Sequential, block.get_submodule(block.PARTS[1]))[0])
    kept = eliminate(moments(hidden, target), source.metric, depthwise.in_channels)
    expand, own = source.folded.expand, source.folded.depthwise
    assert expand is not None
    first = stem if stem is not None else block.get_submodule(block.PARTS[0])
    set_folded(first, Affine(expand.weight[kept], expand.bias[kept]))
    set_folded(block.get_submodule(block.PARTS[1]), Affine(own.weight[kept], own.bias[kept]))
    _set_projection(block, hidden[:, kept], target)


def group(block: Block, source: Source) -> Tensor:
    """Gives a grouped block of the original's width its weights, in place.

    Returns:
        [E]: which hidden channel of the original each of the expansion's is.
    """
    expand, depthwise = source.folded.expand, source.folded.depthwise
    assert expand is not None
    first, _, last = block_convs(block)
    rows = sample(source.inputs)
    weight = expand.weight[:, :, 0, 0]
    mean, covariance = rows.mean(dim=0).double(), moments(rows, rows).covariance
    columns = torch.arange(len(mean)).chunk(first.groups)
    inside = [_within(weight, covariance, own) for own in columns]
    written = undone(block.p2, last.out_channels)
    gain = _gain(source, weight, covariance, inside, written.chunk(last.groups))
    branches, readers = cells_of(len(weight), block.p1, (first.groups, last.groups))
    order = _assign(gain[:, branches, readers])
    parts = order.chunk(first.groups)
    own_weight = torch.cat([inside[n][0][members] for n, members in enumerate(parts)])
    whole = torch.zeros_like(weight)
    for n, members in enumerate(parts):
        whole[members[:, None], columns[n]] = inside[n][0][members]
    bias = expand.bias + ((weight - whole).double() @ mean).float()
    set_folded(
        block.get_submodule(block.PARTS[0]), Affine(own_weight[:, :, None, None], bias[order])
    )
    placed = order[torch.from_numpy(channel_order(block.p1, len(order)))]
    own = Affine(depthwise.weight[placed], depthwise.bias[placed])
    set_folded(block.get_submodule(block.PARTS[1]), own)
    fit_projection(block, source.inputs, source.target)
    return order


def fill(block: Block, source: Source) -> Tensor | None:
    """Gives a block its weights by `group` or `narrow`, in place.

    Returns:
        The order of a grouped one's hidden channels.
    """
    expand, _, project = block_convs(block)
    if expand.groups > 1 or project.groups > 1:
        return group(block, source)
    narrow(block, source)
    return None


@torch.no_grad()
def fit_projection(block: Block, inputs: Tensor, target: Tensor) -> None:
    """Fits a block's projection to the output wanted, behind its own layers, in place."""
    expand, depthwise, _ = (block.get_submodule(name) for name in block.PARTS)
    hidden = depthwise(block.p1(expand(inputs)))
    _set_projection(block, sample(hidden), sample(target))


def _set_projection(block: Block, hidden: Tensor, target: Tensor) -> None:
    """Fits a block's projection to rows of its input and of the block's output, in place."""
    own = target[:, undone(block.p2, target.shape[1])]
    set_projection(block.get_submodule(block.PARTS[2]), hidden, own)


def _within(weight: Tensor, covariance: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
    """Weights on some input channels alone, and the share of each output's variance they keep."""
    weight = weight.double()
    inner = covariance[own][:, own]
    fitted = torch.linalg.solve(inner, covariance[own] @ weight.T).T  # [E, C / g]
    kept = ((fitted @ inner) * fitted).sum(dim=1)
    whole = ((weight @ covariance) * weight).sum(dim=1).clamp(min=1e-12)
    return fitted.float(), (kept / whole).clamp(0, 1).float()


def _gain(
    source: Source,
    weight: Tensor,
    covariance: Tensor,
    inside: list[tuple[Tensor, Tensor]],
    written: tuple[Tensor, ...],
) -> Tensor:
    """[E, G1, G2]: what of each hidden channel's effect on the outputs a cell keeps.

    Args:
        source: of the original.
        weight: [E, C], of its expansion.
        covariance: [C, C], of its inputs.
        inside: as `_within` finds it, by group of the expansion.
        written: the block's outputs of each group of the projection.
    """
    variance = cells(source.hidden).var(dim=0)
    out = source.folded.project.weight[:, :, 0, 0]
    energy = source.metric.diagonal()[:, None] * out.square() * variance  # [C', E]
    by_group = torch.stack([energy[own].sum(dim=0) for own in written], dim=1)
    shares = torch.stack([kept for _, kept in inside], dim=1)
    return shares[:, :, None] * by_group[:, None, :]


def _assign(gain: Tensor) -> Tensor:
    """[E]: the hidden channel at each place, with the greatest sum of gains [E, places]."""
    rows, columns = linear_sum_assignment(gain.numpy(), maximize=True)
    order = torch.empty(len(gain), dtype=torch.int64)
    order[torch.from_numpy(columns)] = torch.from_numpy(rows)
    return order


@torch.no_grad()
def block_source(
    folded: FoldedBlock,
    block: Block,
    inputs: Tensor,
    metric: Tensor,
    stem: nn.Module | None = None,
) -> Source:
    """What the replacements of a block are made from.

    Args:
        folded: the original block.
        block: the original itself, for its ReLU6s, stride and padding.
        inputs: [B, C, H, W], or images with a stem.
        metric: [C', C'].
        stem: in front of a block without expansion: it becomes ``folded.expand`` of the result.
    """
    expand, depthwise, project = (block.get_submodule(name) for name in block.PARTS)
    hidden = depthwise(block.p1(expand(inputs if stem is None else stem(inputs))))
    conv = cast(nn.Conv2d, cast(nn.Sequential, project)[0])
    affine = fold(project)
    target = block.p2(F.conv2d(hidden, affine.weight, affine.bias, groups=conv.groups))
    hidden = hidden[:, undone(block.p1, hidden.shape[1])]
    if stem is not None:
        folded = folded._replace(expand=fold(stem))
    return Source(folded, hidden, target, inputs, metric)
