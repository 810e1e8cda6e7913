"""Layers that both backbones and the SSDLite head are made of."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from igcv3det.config import Padding

Norm = partial[nn.BatchNorm2d]
BATCH_NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm)
"""Norms of [B, C, H, W]; Lightning's ``sync_batchnorm`` replaces the first by the second."""


def norm_layer(eps: float, momentum: float) -> Norm:
    """A batch-normalisation constructor with its two constants set."""
    return partial(nn.BatchNorm2d, eps=eps, momentum=momentum)


def conv_norm(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    norm: Norm,
    *,
    stride: int = 1,
    groups: int = 1,
    relu: bool = False,
) -> nn.Sequential:
    """Convolution without bias, batch normalisation and, if asked for, ReLU6.

    The size is kept at stride 1.
    """
    layers: list[nn.Module] = [
        nn.Conv2d(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=kernel_size // 2,
            groups=groups,
            bias=False,
        ),
        norm(out_channels),
    ]
    if relu:
        layers.append(nn.ReLU6(inplace=True))
    return nn.Sequential(*layers)


@contextmanager
def named(field: str) -> Iterator[None]:
    """Puts the field of the configuration before the message of a ValueError."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{field}: {error}") from error


class ChannelPermutation(nn.Module):
    """Interleaves the super-channels of ``groups`` branches (ShuffleNet's channel shuffle).

    With branches A and B of two groups and four super-channels, A0 A1 B0 B1 becomes A0 B0 A1 B1.

    Args:
        channels: C.
        groups: g, contiguous branches of the input.
        super_channels: Cs, number of contiguous pieces that move as a whole; None moves single
            channels.

    Raises:
        ValueError: Cs does not divide the channels, or g does not divide Cs.

    Source: IGCV3 section 3.2; with single channels, ``permutation`` of the authors'
    symbols/igcv3.py: output channel ``k * g + j`` is input channel ``j * C / g + k``.

    Example:
        >>> ChannelPermutation(8, 2).index.tolist()
        [0, 4, 1, 5, 2, 6, 3, 7]
        >>> ChannelPermutation(8, 2, super_channels=4).index.tolist()
        [0, 1, 4, 5, 2, 3, 6, 7]
    """

    def __init__(self, channels: int, groups: int, super_channels: int | None = None) -> None:
        super().__init__()
        pieces = channels if super_channels is None else super_channels
        if channels % pieces:
            raise ValueError(
                f"super_channels={pieces} must divide the {channels} channels permuted"
            )
        if pieces % groups:
            raise ValueError(f"groups={groups} must divide the {pieces} super-channels permuted")
        self.channels, self.groups, self.pieces = channels, groups, pieces

    @property
    def index(self) -> NDArray[np.int64]:
        """[C]: the input channel at each output position.

        An array, not a tensor: it has values also where tensors are on ``meta`` or fake.
        """
        shape = (self.groups, self.pieces // self.groups, self.channels // self.pieces)
        return np.arange(self.channels).reshape(shape).swapaxes(0, 1).reshape(-1)

    def inverse(self) -> ChannelPermutation:
        """The permutation that undoes this one."""
        return ChannelPermutation(self.channels, self.pieces // self.groups, self.pieces)

    def forward(self, x: Tensor) -> Tensor:
        """Permutes [B, C, H, W] along C and keeps the memory format."""
        pieces = (self.groups, self.pieces // self.groups, self.channels // self.pieces)
        if x.is_contiguous(memory_format=torch.channels_last):  # else the layers after would copy
            cells = x.permute(0, 2, 3, 1)
            moved = cells.reshape(*cells.shape[:3], *pieces).transpose(3, 4)
            return moved.reshape(cells.shape).permute(0, 3, 1, 2)
        # len() would fix the batch of an export
        moved = x.reshape(x.shape[0], *pieces, *x.shape[2:]).transpose(1, 2)
        return moved.reshape(x.shape)

    def extra_repr(self) -> str:
        """Shown by ``print(model)``."""
        return f"{self.channels}, groups={self.groups}, super_channels={self.pieces}"


def channel_order(layer: nn.Module, channels: int) -> NDArray[np.int64]:
    """[C]: the input channel at each output position; a layer that permutes nothing moves none."""
    return layer.index if isinstance(layer, ChannelPermutation) else np.arange(channels)


class SameConv2d(nn.Conv2d):
    """A strided convolution with TensorFlow's SAME padding: odd pixels go to the bottom and right.

    The input is padded so that every side gives ``ceil(side / stride)`` outputs. For 3x3 at stride
    2 an even side is padded by (0, 1) and an odd one by (1, 1); PyTorch's ``padding=1`` pads both
    by (1, 1).

    Source: TensorFlow, "Notes on padding", tf.nn.convolution.
    """

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Convolves [B, C, H, W]."""
        pads = same_padding(x, self.kernel_size, self.stride)
        return F.conv2d(F.pad(x, pads), weight, bias, self.stride, 0, self.dilation, self.groups)


def same_padding(x: Tensor, kernel_size: tuple[int, ...], stride: tuple[int, ...]) -> list[int]:
    """TensorFlow's SAME for [B, C, H, W] as `F.pad` takes it: left, right, top, bottom."""
    pads: list[int] = []
    for side, kernel, step in zip(
        (x.shape[3], x.shape[2]), kernel_size[::-1], stride[::-1], strict=True
    ):
        total = max((-(-side // step) - 1) * step + kernel - side, 0)
        pads += [total // 2, total - total // 2]
    return pads


def initialise(network: nn.Module) -> None:
    """Random weights as torchvision's MobileNetV2 draws them (He over the fan-out), in place."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out")
        elif isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, 0, 0.01)
            nn.init.zeros_(layer.bias)


def set_padding(module: nn.Module, padding: Padding) -> None:
    """Sets the padding of every strided convolution inside ``module``, in place.

    Weights and their names do not change, so state dicts fit either way.
    """
    if padding == "symmetric":
        return
    for parent in list(module.modules()):
        for name, conv in list(parent.named_children()):
            if isinstance(conv, nn.Conv2d) and max(conv.stride) > 1:
                setattr(parent, name, _same_padded(conv))


def _same_padded(conv: nn.Conv2d) -> SameConv2d:
    kernel, stride = conv.kernel_size, conv.stride
    same = SameConv2d(
        conv.in_channels,
        conv.out_channels,
        (kernel[0], kernel[1]),
        stride=(stride[0], stride[1]),
        groups=conv.groups,
        bias=conv.bias is not None,
    )
    same.weight, same.bias = conv.weight, conv.bias
    return same
