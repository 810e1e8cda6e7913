"""Faster implementations of the same network that keep its parameters, for training.

`igcv3det.fastpath.deploy` rewrites weights for good. Here every module keeps its parameters and
buffers under their names; the weights are rearranged in each step, through autograd. State dicts,
those of optimizers too, fit both ways, and training may resume with another implementation.

Tried without a gain on CPUs in eager mode: 1x1 convolutions as matrix products; ``folded``.
"""

from __future__ import annotations

from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from igcv3det.fastpath.block_variants import (
    Block,
    BlockVariant,
    Remapped,
    block_convs,
    block_layout,
    gather_weight,
    grouped_blocks,
)
from igcv3det.fastpath.depthwise import replace_depthwise
from igcv3det.fastpath.folded import FoldedConvNorm
from igcv3det.fastpath.frozen_norms import convolve, frozen_affine, replace_sequences
from igcv3det.fastpath.sync_norms import is_synced, own_affine, synced_batch_norm
from igcv3det.models.igcv3 import IGCV3
from igcv3det.models.igcv3_block import IGCV3Block
from igcv3det.models.layers import BATCH_NORMS
from igcv3det.models.ssdlite import ExtraLayer

ConvImpl = Literal["reference", "fast", "folded"]

# With narrower groups the copy of the input costs more than the multiplications that it saves
# (forward and backward in bf16 and float32, channels last, PyTorch 2.15 on an AVX-512 CPU)
_MIN_GROUP = 32
_DENSE = BlockVariant("dense", "dense")
_ORDERED = BlockVariant("grouped", "dense")  # the expansion's channels keep their order


def set_conv_impl(module: nn.Module, conv_impl: ConvImpl) -> None:
    """Sets the implementation of all convolutions and norms inside ``module``, in place.

    Outputs, gradients, statistics and state dicts equal the reference's up to rounding. ``fast`` is
    for CPUs, ``folded`` for GPUs, both in the channels-last layout. All support `nn.SyncBatchNorm`.

    Args:
        module: a detector, a backbone, or a module that contains one.
        conv_impl: ``reference`` follows the paper step by step; ``fast`` has no permutation, uses
            the depthwise convolutions of `fastpath.depthwise` and folds norms with frozen
            statistics (`fastpath.frozen_norms`); ``folded`` has no permutation, dense 1x1
            convolutions and `fastpath.folded`.

    Example:
        >>> from igcv3det.models.igcv3 import igcv3_d
        >>> network = igcv3_d(10, cifar=True)
        >>> names = list(network.state_dict())
        >>> set_conv_impl(network, "fast")
        >>> list(network.state_dict()) == names
        True
    """
    taps = {
        backbone.blocks[backbone.tap_block]
        for backbone in module.modules()
        if isinstance(backbone, IGCV3)
    }
    for block in list(module.modules()):
        if isinstance(block, (IGCV3Block, ExtraLayer)):
            _restore(block)
    if conv_impl != "reference":
        folds = conv_impl == "folded"
        for block in list(grouped_blocks(module)):
            if block in taps:  # its expansion is read as a feature map
                _remap(block, _ORDERED)
            else:
                _remap(block, _DENSE if folds else _fast_variant(block), folds=folds)
    replace_depthwise(module, fast=conv_impl == "fast")
    replace_sequences(module, fast=conv_impl == "fast")


class RemappedConvNorm(Remapped):
    """A convolution, its batch normalisation and ReLU6, one after the other."""

    def forward(self, x: Tensor) -> Tensor:
        """Maps [B, C, H, W] to [B, C', H', W'], channels in the layout's order."""
        conv, norm, *activations = self
        assert isinstance(conv, nn.Conv2d)
        assert isinstance(norm, BATCH_NORMS)
        weight = gather_weight(conv.weight, self.elements)
        repeated = torch.cat([x] * self.repeats, dim=1) if self.repeats > 1 else x
        if norm.training:
            out = convolve(conv, repeated, weight, None, self.groups)
            out = self._normalised(out, norm)
        else:
            scale, shift = frozen_affine(norm, self.rows)
            weight = weight * scale[:, None, None, None]
            out = convolve(conv, repeated, weight, shift, self.groups)
        for activation in activations:
            out = activation(out)
        return out

    def _normalised(self, x: Tensor, norm: nn.BatchNorm2d | nn.SyncBatchNorm) -> Tensor:
        if is_synced(norm):
            return synced_batch_norm(norm, x, self.rows)
        mean, variance = norm.running_mean, norm.running_var
        assert mean is not None
        assert variance is not None
        assert norm.momentum is not None
        own_mean, own_variance = mean[self.rows], variance[self.rows]
        out = F.batch_norm(
            x,
            own_mean,
            own_variance,
            *own_affine(norm, self.rows),
            True,
            norm.momentum,
            norm.eps,
        )
        with torch.no_grad():
            mean[self.rows] = own_mean
            variance[self.rows] = own_variance
            assert norm.num_batches_tracked is not None
            norm.num_batches_tracked.add_(1)
        return out


class AbsorbedPermutation(nn.Identity):
    """Takes the place of a permutation that the weights around it carry out.

    Args:
        permutation: the one that is not executed.
    """

    def __init__(self, permutation: nn.Module) -> None:
        super().__init__()
        self.permutation = permutation
        self.training = permutation.training


def _fast_variant(block: Block) -> BlockVariant:
    expand, _, project = block_convs(block)
    widths = (expand.in_channels // expand.groups, project.out_channels // project.groups)
    is_wide = min(widths) >= _MIN_GROUP
    return BlockVariant("grouped", "grouped") if is_wide else _DENSE


def _remap(block: Block, variant: BlockVariant, *, folds: bool = False) -> None:
    layout = block_layout(block, variant)
    for name, own in zip(block.PARTS, layout, strict=True):
        source = cast(nn.Sequential, block.get_submodule(name))
        kind = FoldedConvNorm if folds and name == block.PARTS[0] else RemappedConvNorm
        setattr(block, name, kind(source, own))
    block.p1, block.p2 = AbsorbedPermutation(block.p1), AbsorbedPermutation(block.p2)


def _restore(block: Block) -> None:
    for name in block.PARTS:
        child = getattr(block, name)
        if isinstance(child, Remapped):
            plain = nn.Sequential(*child)
            plain.training = child.training
            setattr(block, name, plain)
    for name in ("p1", "p2"):
        child = getattr(block, name)
        if isinstance(child, AbsorbedPermutation):
            setattr(block, name, child.permutation)
