"""An expansion with batch normalisation that takes no extra pass over the expanded tensor.

Without a ReLU between them, expansion and normalisation are one linear map, and the batch's
statistics of ``W x`` follow from those of ``x``: the mean is ``W mean(x)``, the variances are the
diagonal of ``W cov(x) W^T``. The expanded tensor is six times as wide as ``x`` and most of a
training step's bytes; here it is written once, already normalised. For GPUs, where bytes bound the
step; on a CPU the moments cost what the normalisation costs.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from igcv3det.fastpath.block_variants import Remapped, WeightLayout, gather_weight
from igcv3det.fastpath.sync_norms import (
    BatchNorm,
    is_synced,
    own_affine,
    synced_mean,
    update_running_stats,
)
from igcv3det.models.layers import BATCH_NORMS


class FoldedConvNorm(Remapped):
    """A 1x1 convolution and its batch normalisation as one matrix product, and its ReLU6.

    The layout's ``groups`` and ``repeats`` must be 1.
    """

    def __init__(self, source: nn.Sequential, layout: WeightLayout) -> None:
        assert (layout.groups, layout.repeats) == (1, 1)
        super().__init__(source, layout)

    def forward(self, x: Tensor) -> Tensor:
        """Maps [B, C, H, W] to [B, C', H, W], channels in the layout's order."""
        conv, norm, *activations = self
        assert isinstance(conv, nn.Conv2d)
        assert isinstance(norm, BATCH_NORMS)
        batch, channels, height, width = x.shape
        cells = x.permute(0, 2, 3, 1).reshape(-1, channels)
        with torch.autocast(x.device.type, enabled=False):
            weight = gather_weight(conv.weight, self.elements).flatten(1)  # [C', C]
            mean, variance = self._statistics(cells, weight, norm)
            own_weight, own_bias = own_affine(norm, self.rows)
            scale = own_weight * torch.rsqrt(variance + norm.eps)
            shift = own_bias - mean * scale
            weight = weight * scale[:, None]
        out = F.linear(cells, weight.to(x.dtype), shift.to(x.dtype))
        out = out.reshape(batch, height, width, -1).permute(0, 3, 1, 2)
        for activation in activations:
            out = activation(out)
        return out

    def _statistics(self, cells: Tensor, weight: Tensor, norm: BatchNorm) -> tuple[Tensor, Tensor]:
        """Mean and biased variance of each output channel; the running ones in evaluation."""
        if not norm.training:
            assert norm.running_mean is not None
            assert norm.running_var is not None
            return norm.running_mean[self.rows], norm.running_var[self.rows]
        first, second = cast("tuple[Tensor, Tensor]", _Moments.apply(cells))
        count: Tensor | int = len(cells)
        if is_synced(norm):
            moments = torch.cat([first[:, None], second], dim=1) * count
            count, moments = synced_mean(moments, len(cells), norm)
            first, second = moments[:, 0], moments[:, 1:]
        covariance = second - first[:, None] * first
        mean = weight @ first
        variance = ((weight @ covariance) * weight).sum(dim=1).clamp(min=0)
        update_running_stats(norm, mean, variance, count, self.rows)
        return mean, variance


class _Moments(torch.autograd.Function):
    """First [C] and second [C, C] moments of rows [N, C], in float32 at least."""

    @staticmethod
    def forward(ctx: Any, cells: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ANN401
        ctx.save_for_backward(cells)
        wide = torch.promote_types(cells.dtype, torch.float32)
        if cells.is_cuda and cells.dtype != wide:
            second = torch.mm(cells.T, cells, out_dtype=wide)
        else:
            second = cells.T.to(wide) @ cells.to(wide)
        return cells.mean(dim=0, dtype=wide), second / len(cells)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_first: Tensor, of_second: Tensor) -> Tensor:  # noqa: ANN401
        (cells,) = ctx.saved_tensors
        weight = ((of_second + of_second.T) / len(cells)).to(cells.dtype)
        return torch.addmm((of_first / len(cells)).to(cells.dtype), cells, weight)
