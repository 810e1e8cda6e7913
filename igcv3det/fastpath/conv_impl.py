"""A network that computes the same in less time and keeps its parameters: for training.

`igcv3det.fastpath.deploy` rewrites weights for good. Here every module keeps its parameters and
buffers under their names and lays the weights out in each step, through autograd. State dicts fit
both ways, those of optimizers too, and training may go on under the other execution.

Tried and not kept, for it won nothing on a CPU in eager mode: the 1x1 convolutions as matrix
products. The folded execution wins nothing there either.
"""

from __future__ import annotations

from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from igcv3det.fastpath.block_variants import (
    BlockVariant,
    Remapped,
    block_convs,
    block_layout,
    gather_weight,
)
from igcv3det.fastpath.depthwise import replace_depthwise
from igcv3det.fastpath.folded import FoldedConvNorm
from igcv3det.fastpath.frozen_norms import convolve, frozen_affine, replace_sequences
from igcv3det.models.igcv3 import IGCV3, IGCV3Block

Execution = Literal["reference", "fast", "folded"]

# Narrower groups lose by the copy of the input what they save in multiplications (measured forward
# and backward in bf16 and float32, channels last, PyTorch 2.15 on an AVX-512 CPU)
_MIN_GROUP = 32
_DENSE = BlockVariant("dense", "dense")
_ORDERED = BlockVariant("grouped", "dense")  # the expansion's channels keep their order


def set_execution(module: nn.Module, execution: Execution) -> None:
    """Chooses how every network of this package inside ``module`` computes, in place.

    Outputs, gradients, statistics and state dicts are those of the reference, up to rounding. The
    fast execution is for CPUs, the folded one for GPUs, both in the channels-last layout.

    Args:
        module: a detector, a backbone, or something that holds one.
        execution: ``reference`` follows the paper step by step; ``fast`` has no permutation, the
            depthwise convolutions of `fastpath.depthwise`, and folds normalisations that keep their
            statistics (`fastpath.frozen_norms`); ``folded`` has no permutation either, dense 1x1
            convolutions and `fastpath.folded`.

    Example:
        >>> from igcv3det.models.igcv3 import igcv3_d
        >>> network = igcv3_d(10, cifar=True)
        >>> names = list(network.state_dict())
        >>> set_execution(network, "fast")
        >>> list(network.state_dict()) == names
        True
    """
    for part in list(module.modules()):
        if isinstance(part, IGCV3):
            for index, block in enumerate(part.blocks):
                assert isinstance(block, IGCV3Block)
                _restore(block)
                if execution == "reference":
                    continue
                folds = execution == "folded"
                if index == part.tap_block:  # its expansion is read as a feature map
                    _lay_out(block, _ORDERED)
                else:
                    _lay_out(block, _DENSE if folds else _fast_form(block), folds=folds)
    replace_depthwise(module, fast=execution == "fast")
    replace_sequences(module, fast=execution == "fast")


class RemappedConvNorm(Remapped):
    """A convolution, its batch normalisation and its ReLU6, one after the other."""

    def forward(self, x: Tensor) -> Tensor:
        """Maps [B, C, H, W] to [B, C', H', W'], channels in the layout's order."""
        conv, norm, *activations = self
        assert isinstance(conv, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
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

    def _normalised(self, x: Tensor, norm: nn.BatchNorm2d) -> Tensor:
        mean, variance = norm.running_mean, norm.running_var
        assert mean is not None
        assert variance is not None
        assert norm.momentum is not None
        own_mean, own_variance = mean[self.rows], variance[self.rows]
        out = F.batch_norm(
            x,
            own_mean,
            own_variance,
            norm.weight[self.rows],
            norm.bias[self.rows],
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
    """Stands where a permutation was that the weights around it carry out now.

    Args:
        permutation: the one that is not executed.
    """

    def __init__(self, permutation: nn.Module) -> None:
        super().__init__()
        self.permutation = permutation
        self.training = permutation.training


def _fast_form(block: IGCV3Block) -> BlockVariant:
    expand, _, project = block_convs(block)
    widths = (expand.in_channels // expand.groups, project.out_channels // project.groups)
    is_wide = min(widths) >= _MIN_GROUP
    return BlockVariant("grouped", "grouped") if is_wide else _DENSE


def _lay_out(block: IGCV3Block, form: BlockVariant, *, folds: bool = False) -> None:
    layout = block_layout(block, form)
    device = block_convs(block)[0].weight.device
    for name, own in layout._asdict().items():
        source = cast(nn.Sequential, getattr(block, name))
        kind = FoldedConvNorm if folds and name == "expand" else RemappedConvNorm
        setattr(block, name, kind(source, own).to(device))
    block.p1, block.p2 = AbsorbedPermutation(block.p1), AbsorbedPermutation(block.p2)


def _restore(block: IGCV3Block) -> None:
    for name in ("expand", "depthwise", "project"):
        part = getattr(block, name)
        if isinstance(part, Remapped):
            plain = nn.Sequential(*part)
            plain.training = part.training
            setattr(block, name, plain)
    for name in ("p1", "p2"):
        part = getattr(block, name)
        if isinstance(part, AbsorbedPermutation):
            setattr(block, name, part.permutation)
