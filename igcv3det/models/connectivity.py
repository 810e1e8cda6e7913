"""Numbers of paths from input to output channels through a chain of convolutions.

The complementary condition of the IGC family is a statement about this matrix: every pair of an
input and an output channel has exactly one path (strict, IGCV2 section 3.2) or at least one (loose,
IGCV3 section 3.2).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from igcv3det.models.layers import ChannelPermutation


def path_counts(layers: Iterable[nn.Module]) -> Tensor:
    """Counts the paths through a chain of layers; weights do not matter.

    Args:
        layers: convolutions (only their groups matter), permutations, and layers that work on each
            channel alone (normalisation, activation, `nn.Identity`); an `nn.Sequential` counts as
            its children.

    Returns:
        [C', C] float32: paths from each input channel to each output channel.

    Raises:
        ValueError: a layer of another kind, or no convolution among them.

    Example:
        >>> path_counts([nn.Conv2d(4, 2, 1, groups=2)]).tolist()
        [[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0]]
    """
    counts: Tensor | None = None  # [C, C' so far, 1, 1]: what each input channel has reached
    for layer in _flat(layers):
        if isinstance(layer, nn.Conv2d):
            if counts is None:
                counts = torch.eye(layer.in_channels, dtype=torch.float32)[:, :, None, None]
            columns = layer.in_channels // layer.groups
            ones = torch.ones(layer.out_channels, columns, 1, 1, dtype=torch.float32)
            counts = F.conv2d(counts, ones, groups=layer.groups)
        elif isinstance(layer, ChannelPermutation):
            if counts is None:
                counts = torch.eye(layer.channels, dtype=torch.float32)[:, :, None, None]
            counts = layer(counts)
        elif not isinstance(layer, (nn.BatchNorm2d, nn.ReLU, nn.ReLU6, nn.Identity)):
            raise ValueError(f"no rule for the channels of {type(layer).__name__}")
    if counts is None:
        raise ValueError("there are no convolutions to count the paths of")
    return counts[:, :, 0, 0].T


def _flat(layers: Iterable[nn.Module]) -> Iterable[nn.Module]:
    for layer in layers:
        if isinstance(layer, nn.Sequential):
            yield from _flat(layer)
        else:
            yield layer
