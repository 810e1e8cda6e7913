"""Convolutions of a part as plain weights and biases, and back into layers with norms."""

from __future__ import annotations

from typing import NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from igcv3det.config import Groups
from igcv3det.fastpath.block_variants import Block, dense_elements, gather_weight
from igcv3det.models.layers import BATCH_NORMS, ChannelPermutation, channel_order


class Affine(NamedTuple):
    """A convolution with its norm folded: ``weight`` [C', C, kH, kW] and ``bias`` [C']."""

    weight: Tensor
    bias: Tensor


class FoldedBlock(NamedTuple):
    """A block or extra layer without groups and permutations, norms folded.

    Attributes:
        expand: dense; None for a block without expansion.
        depthwise: [E, 1, 3, 3].
        project: dense, columns in the order of the expansion, rows in that of the block's output.
    """

    expand: Affine | None
    depthwise: Affine
    project: Affine


def fold(sequence: nn.Module) -> Affine:
    """A convolution and the norm after it, as `conv_norm` makes them; or a bare convolution."""
    if isinstance(sequence, nn.Conv2d):
        bias = sequence.bias
        zeros = sequence.weight.new_zeros(sequence.out_channels)
        return Affine(sequence.weight.detach(), zeros if bias is None else bias.detach())
    conv, norm = (cast(nn.Sequential, sequence)[i] for i in (0, 1))
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(norm, BATCH_NORMS)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = (norm.weight * torch.rsqrt(norm.running_var + norm.eps)).detach()
    shift = norm.bias.detach() - norm.running_mean * scale
    return Affine(conv.weight.detach() * scale[:, None, None, None], shift)


def fold_block(block: Block) -> FoldedBlock:
    """A block as three folded convolutions, dense and in one order of channels."""
    names = block.PARTS
    own = [block.get_submodule(name) for name in names]
    depthwise, project = fold(own[1]), _dense(fold(own[2]), own[2])
    written = torch.from_numpy(channel_order(block.p2, len(project.bias)))
    project = Affine(project.weight[written], project.bias[written])
    if not isinstance(own[0], nn.Sequential):
        return FoldedBlock(None, depthwise, project)
    expand = _dense(fold(own[0]), own[0])
    at = undone(block.p1, len(depthwise.bias))
    return FoldedBlock(
        expand,
        Affine(depthwise.weight[at], depthwise.bias[at]),
        Affine(project.weight[:, at], project.bias),
    )


def undone(permutation: nn.Module, channels: int) -> Tensor:
    """[C] int64: the output of a permutation that each of its input channels becomes."""
    return torch.from_numpy(np.argsort(channel_order(permutation, channels)))


def fold_pointwise(layer: nn.Sequential) -> Affine:
    """All 1x1 convolutions of a prediction layer behind its depthwise one, as one dense 1x1.

    Args:
        layer: depthwise convolution, then one 1x1 or two, grouped or not, with a permutation
            between them.
    """
    _, first, *others = layer
    found = _dense(fold(first), first)
    for module in others:
        if isinstance(module, ChannelPermutation):
            order = torch.from_numpy(module.index)
            found = Affine(found.weight[order], found.bias[order])
            continue
        weight, bias = _dense(fold(module), module)
        matrix = weight[:, :, 0, 0]
        product = matrix @ found.weight[:, :, 0, 0]
        found = Affine(product[:, :, None, None], matrix @ found.bias + bias)
    return found


def cells_of(channels: int, permutation: nn.Module, groups: Groups) -> tuple[Tensor, Tensor]:
    """Where the channels between two 1x1 convolutions come from and go to.

    Args:
        channels: E, between the two.
        permutation: between them; any other layer moves no channels.
        groups: (G1, G2) of the two.

    Returns:
        For each output channel of the first, [E] int64 each: its own group, and the group of the
        second that reads it.
    """
    first, second = groups
    read = undone(permutation, channels) // (channels // second)
    return torch.arange(channels) // (channels // first), read


def _dense(affine: Affine, sequence: nn.Module) -> Affine:
    """The weight of a 1x1, bare or at the start of a sequence, without groups."""
    conv = sequence if isinstance(sequence, nn.Conv2d) else cast(nn.Sequential, sequence)[0]
    assert isinstance(conv, nn.Conv2d)
    if conv.groups == 1:
        return affine
    elements = torch.from_numpy(dense_elements(conv))
    return Affine(gather_weight(affine.weight, elements), affine.bias)


@torch.no_grad()
def set_folded(sequence: nn.Module, affine: Affine) -> None:
    """Gives `conv_norm`'s layers weights that compute a folded convolution, in place.

    Rows get a root mean square of 1 / sqrt(fan-in), with the rest of the scale in the norm, so that
    one learning rate suits all.
    """
    if isinstance(sequence, nn.Conv2d):
        sequence.weight.copy_(affine.weight)
        if sequence.bias is not None:
            sequence.bias.copy_(affine.bias)
        return
    conv, norm = (cast(nn.Sequential, sequence)[i] for i in (0, 1))
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(norm, BATCH_NORMS)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = affine.weight.flatten(1).norm(dim=1).clamp(min=1e-6)
    conv.weight.copy_(affine.weight / scale[:, None, None, None])
    norm.weight.copy_(scale)
    norm.bias.copy_(affine.bias)
    norm.running_mean.zero_()
    norm.running_var.fill_(1 - norm.eps)


def rescale(module: nn.Module) -> None:
    """Writes every convolution with a norm after it as `set_folded` does, in place.

    The function stays the same. Weights of folded origin can be far smaller than those of a fresh
    network, and Adam's steps, which do not depend on their size, would then change them too fast.
    """
    for sequence in module.modules():
        if isinstance(sequence, nn.Sequential) and len(sequence) > 1:
            conv, norm = sequence[0], sequence[1]
            if isinstance(conv, nn.Conv2d) and isinstance(norm, BATCH_NORMS):
                set_folded(sequence, fold(sequence))
