"""Initial weights of replacements of a detector's prediction layers, last 1x1 and extra layers."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from igcv3det.fastpath.block_variants import Block
from igcv3det.models.layers import channel_order
from igcv3det.tasks.compress.detector_parts import LastPart, PredictionPart
from igcv3det.tasks.compress.folded import (
    Affine,
    cells_of,
    fold,
    fold_block,
    fold_pointwise,
    set_folded,
)
from igcv3det.tasks.compress.initial import (
    block_source,
    fill,
    fit_projection,
    sample,
    set_projection,
)
from igcv3det.tasks.compress.least_squares import cells, moments, reduced_rank
from igcv3det.tasks.compress.teacher import Metrics


def start_prediction(
    part: PredictionPart, original: PredictionPart, inputs: Tensor, metrics: Metrics
) -> None:
    """Splits the 1x1 of a classification layer; all else is the original's."""
    part.regression.load_state_dict(original.regression.state_dict())
    depthwise, *_ = cast(nn.Sequential, original.classification)
    cast(nn.Sequential, part.classification)[0].load_state_dict(depthwise.state_dict())
    affine = fold_pointwise(cast(nn.Sequential, original.classification))
    rows = sample(depthwise(inputs))
    split_pointwise(
        cast(nn.Sequential, part.classification), affine, rows, metrics[part.outputs[0]]
    )


def split_pointwise(layer: nn.Sequential, affine: Affine, rows: Tensor, metric: Tensor) -> None:
    """Sets the 1x1 convolutions of a prediction layer, one or two, to a folded 1x1, in place.

    Args:
        layer: of the replacement.
        affine: what it is to compute.
        rows: [N, C], its inputs.
        metric: [C', C'] about its outputs.
    """
    reduce, predict = layer[1], layer[-1]
    assert isinstance(predict, nn.Conv2d)
    assert isinstance(reduce, nn.Conv2d)
    if reduce is predict:
        set_folded(predict, affine)
        return
    weight = affine.weight[:, :, 0, 0]
    covariance = moments(rows, rows).covariance
    ins = torch.arange(weight.shape[1]).chunk(reduce.groups)
    outs = torch.arange(weight.shape[0]).chunk(predict.groups)
    left = torch.zeros(predict.out_channels, reduce.out_channels)
    right = torch.zeros(reduce.out_channels, reduce.in_channels)
    branches, readers = cells_of(reduce.out_channels, layer[2], (reduce.groups, predict.groups))
    for branch, own in enumerate(ins):
        for reader, out in enumerate(outs):
            (cell,) = torch.where((branches == branch) & (readers == reader))
            block = weight[out][:, own]
            factors = reduced_rank(block, covariance[own][:, own], metric[out][:, out], len(cell))
            left[out[:, None], cell], right[cell[:, None], own] = factors
    order = torch.from_numpy(channel_order(layer[2], reduce.out_channels))
    reduced = torch.cat(
        [part[:, own] for part, own in zip(right.chunk(len(ins)), ins, strict=True)]
    )
    columns = left[:, order].chunk(len(outs), dim=1)
    predicted = torch.cat([part[out] for part, out in zip(columns, outs, strict=True)])
    reduce.weight.copy_(reduced[:, :, None, None])
    set_folded(predict, Affine(predicted[:, :, None, None], affine.bias))


def start_last(part: LastPart, original: LastPart, inputs: Tensor, metrics: Metrics) -> None:
    """The most useful channels of the last 1x1, and its readers fitted to them."""
    whole = original.last(inputs)
    own, source = part.prediction, original.prediction
    readers = [
        (cast(nn.Sequential, a), cast(nn.Sequential, b), metrics[name])
        for a, b, name in (
            (own.classification, source.classification, part.outputs[0]),
            (own.regression, source.regression, part.outputs[1]),
        )
    ]
    kept = _most_useful(part, original, whole, metrics)
    affine = fold(original.last)
    set_folded(part.last, Affine(affine.weight[kept], affine.bias[kept]))
    for layer, other, metric in readers:
        depthwise = fold(other[0])
        set_folded(layer[0], Affine(depthwise.weight[kept], depthwise.bias[kept]))
        hidden = sample(other[0](whole))
        pointwise = fold_pointwise(other)
        target = hidden @ pointwise.weight[:, :, 0, 0].T + pointwise.bias
        single = nn.Conv2d(len(kept), target.shape[1], 1)
        set_projection(single, hidden[:, kept], target)
        split_pointwise(layer, fold(single), hidden[:, kept], metric)
    if part.extra is not None:
        _start_first_extra(part, original, whole, kept, metrics)


def _start_first_extra(
    part: LastPart, original: LastPart, whole: Tensor, kept: Tensor, metrics: Metrics
) -> None:
    block, other = cast(Block, part.extra), cast(Block, original.extra)
    metric = metrics[part.outputs[2]]
    source = block_source(fold_block(other), other, whole, metric)
    assert source.folded.expand is not None
    rows = sample(whole)
    expand = source.folded.expand
    wanted = rows @ expand.weight[:, :, 0, 0].T + expand.bias
    single = nn.Conv2d(len(kept), wanted.shape[1], 1)
    set_projection(single, rows[:, kept], wanted)
    folded = source.folded._replace(expand=fold(single))
    inputs = whole[:, kept]
    source = replace(source, folded=folded, inputs=inputs)
    if fill(block, source) is None:
        fit_projection(block, inputs, source.target)


def _most_useful(part: LastPart, original: LastPart, whole: Tensor, metrics: Metrics) -> Tensor:
    """Channels of the last 1x1 with the greatest effect on all that reads them, ascending."""
    conv = part.last[0]
    assert isinstance(conv, nn.Conv2d)
    effect = torch.zeros(whole.shape[1])
    readers = (original.prediction.classification, original.prediction.regression)
    for reader, name in zip(readers, part.outputs, strict=False):
        layer = cast(nn.Sequential, reader)
        hidden = layer[0](whole)
        weight = fold_pointwise(layer).weight[:, :, 0, 0]
        energy = ((metrics[name] @ weight) * weight).sum(dim=0) * cells(hidden).var(dim=0)
        effect += energy * hidden[0, 0].numel()
    if original.extra is not None:
        block = fold_block(cast(Block, original.extra))
        assert block.expand is not None
        out = block.project.weight[:, :, 0, 0]
        by_hidden = ((metrics[part.outputs[2]] @ out) * out).sum(dim=0)  # [E]
        energy = (by_hidden[:, None] * block.expand.weight[:, :, 0, 0].square()).sum(dim=0)
        effect += energy * cells(whole).var(dim=0) * whole[0, 0].numel() / 4
    # a grouped 1x1 keeps equally many channels of each group
    by_group = effect.reshape(conv.groups, -1)
    kept = by_group.topk(conv.out_channels // conv.groups).indices.sort().values
    return (kept + torch.arange(conv.groups)[:, None] * by_group.shape[1]).flatten()
