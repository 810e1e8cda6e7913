"""Synchronised batch normalisation for remapped channels.

`nn.SyncBatchNorm` has its channels in their own order. The statistics here are the same: mean and
variance over the values of all processes, from two differentiable sums over the processes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed, nn

BatchNorm = nn.BatchNorm2d | nn.SyncBatchNorm
Rows = Tensor | slice


def is_synced(norm: nn.Module) -> bool:
    """Whether a norm takes its statistics from several processes in this pass."""
    return (
        isinstance(norm, nn.SyncBatchNorm)
        and norm.training
        and distributed.is_available()
        and distributed.is_initialized()
        and distributed.get_world_size(norm.process_group) > 1
    )


def own_affine(norm: BatchNorm, rows: Rows) -> tuple[Tensor, Tensor]:
    """Weight and bias [C'] of some of a norm's channels.

    By ``index_select``, whose gradient is one kernel on a GPU; that of indexing is several.
    """
    if isinstance(rows, slice):
        return norm.weight[rows], norm.bias[rows]
    return norm.weight.index_select(0, rows), norm.bias.index_select(0, rows)


def synced_batch_norm(norm: BatchNorm, x: Tensor, rows: Rows = slice(None)) -> Tensor:
    """Normalises [B, C', H, W] by the statistics of all processes and updates the running ones.

    Args:
        norm: in training mode, `is_synced`.
        x: this process's batch; other processes may have other sizes.
        rows: which of the norm's channels are C'; all by default.
    """
    values = x.to(torch.promote_types(x.dtype, torch.float32))
    count, mean = synced_mean(values.sum(dim=(0, 2, 3)), x.numel() // x.shape[1], norm)
    centred = values - mean[:, None, None]
    _, variance = synced_mean(centred.square().sum(dim=(0, 2, 3)), x.numel() // x.shape[1], norm)
    update_running_stats(norm, mean, variance, count, rows)
    weight, bias = own_affine(norm, rows)
    scale = weight * torch.rsqrt(variance + norm.eps)
    return torch.addcmul(bias[:, None, None], centred, scale[:, None, None]).to(x.dtype)


def synced_mean(total: Tensor, count: int, norm: BatchNorm) -> tuple[Tensor, Tensor]:
    """Number of values and their mean over all processes.

    Args:
        total: [...] sums over this process's values.
        count: how many values this process has.
        norm: whose process group is asked.
    """
    packed = torch.cat([total.flatten(), total.new_tensor([count])])
    group = norm.process_group if isinstance(norm, nn.SyncBatchNorm) else None
    packed = _AllReduce.apply(packed, group)
    everyone = packed[-1].detach()
    return everyone, (packed[:-1] / everyone).reshape(total.shape)


@torch.no_grad()
def update_running_stats(
    norm: BatchNorm, mean: Tensor, variance: Tensor, count: Tensor | int, rows: Rows = slice(None)
) -> None:
    """Moves running statistics towards a batch's, in place.

    Args:
        norm: with running statistics and a momentum.
        mean: [C'] of the batch.
        variance: [C'] of the batch, biased.
        count: number of values of a channel.
        rows: which of the norm's channels are C'; all by default.
    """
    assert norm.momentum is not None
    assert norm.num_batches_tracked is not None
    degrees = max(1, count - 1) if isinstance(count, int) else (count - 1).clamp(min=1)
    unbiased = variance * (count / degrees)
    for running, own in ((norm.running_mean, mean), (norm.running_var, unbiased)):
        assert running is not None
        running[rows] = torch.lerp(running[rows], own, norm.momentum)
    norm.num_batches_tracked.add_(1)


class _AllReduce(torch.autograd.Function):
    """The sum over all processes; so is its gradient, as every process's loss depends on it."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, group: Any) -> Tensor:  # noqa: ANN401
        ctx.group = group
        total = values.clone()
        distributed.all_reduce(total, group=group)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401
        total = grad.contiguous().clone()
        distributed.all_reduce(total, group=ctx.group)
        return total, None
