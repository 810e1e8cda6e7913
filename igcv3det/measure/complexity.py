"""Counts parameters and multiply-adds of a network.

A multiply-add is one multiplication with its addition in a convolution or matrix product; batch
normalisation, activations and biases are not counted, as in the papers' tables. "FLOPs" elsewhere
means sometimes this number and sometimes twice it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def count_parameters(module: nn.Module) -> int:
    """Number of parameters; shared ones count once, buffers (batch statistics, anchors) do not."""
    return sum(parameter.numel() for parameter in module.parameters())


def count_multiply_adds(module: nn.Module, input_size: Sequence[int]) -> int:
    """Multiply-adds of one forward pass in evaluation mode; the module is left unchanged.

    Only the forward pass is counted: for the backward pass of grouped convolutions PyTorch's
    counter is several times too high.

    Args:
        module: takes one tensor.
        input_size: shape of that tensor, for images [B, 3, H, W].

    Example:
        >>> count_multiply_adds(nn.Conv2d(3, 8, 1), (1, 3, 4, 4))
        384
    """
    training = {inner: inner.training for inner in module.modules()}
    first = next(module.parameters(), torch.zeros(0))
    images = torch.zeros(*input_size, dtype=first.dtype, device=first.device)
    module.eval()
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            module(images)
    finally:
        for inner, was_training in training.items():
            inner.training = was_training
    return int(counter.get_total_flops()) // 2
