"""IGCV2, IGCV3's other baseline: pointwise convolutions as products of sparse ones.

Source: Xie, Wang, Zhang, Lai, Hong, Qi, "IGCV2: Interleaved Structured Sparse Convolutional Neural
Networks", CVPR 2018, arXiv 1804.06202. A block is ``P_L W_L ... P_2 W_2 W_1``::

    W_1         depthwise 3x3, stride
    W_2 .. W_L  1x1 in branches of K_l channels, a permutation between two of them
    ReLU        once, at the end: the product of the W replaces one dense convolution

each W followed by batch normalisation. With ``K_2 K_3 ... K_L = C`` there is exactly one path from
each input to each output channel (the complementary condition); the number of parameters is
smallest where all K are equal (the balance condition). Equal branches whose product exceeds C give
some pairs several paths: the loose condition, which IGCV3 adopted.

Differs from the paper: its table of networks was not available except that the width doubles where
the map is halved; six blocks a stage give the depth of 20. Channels are chosen to match the number
of parameters that IGCV3's authors report.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn

from igcv3det.config import check_fields, require
from igcv3det.config.values import CHANNEL_COUNTS
from igcv3det.models.connectivity import path_counts
from igcv3det.models.layers import ChannelPermutation, Norm, conv_norm, norm_layer

BLOCKS = 6
STRIDES = (1, 1, 2, 2)  # of the stem and of the first block of each stage


@dataclass(frozen=True)
class IGCV2Config:
    """IGCV2: its width, and how its pointwise convolutions are factorised."""

    channels: int = 576
    """Channels of the first of three stages; the second has twice, the third four times as many."""
    blocks: int = BLOCKS
    """Blocks in each stage."""
    branch: int | None = None
    """K, channels of a branch in all layers; None: balanced over ``layers``."""
    layers: int | None = 2
    """Grouped 1x1 convolutions of a block, the paper's L - 1; None: as few as ``branch`` needs."""
    strides: tuple[int, ...] = STRIDES
    """Strides of the stem and of the first block of each stage."""
    dropout: float = 0.0
    """Dropout probability before the classifier."""
    norm_eps: float = 1e-5
    """Epsilon of the batch normalisation."""
    norm_momentum: float = 0.1
    """Momentum of the batch normalisation, in PyTorch's sense."""

    def __post_init__(self) -> None:
        check_fields(
            self,
            "igcv2",
            channels=CHANNEL_COUNTS,
            blocks="[1, inf)",
            strides="[1, inf)",
            dropout="[0, 1)",
            norm_eps="(0, 1)",
            norm_momentum="(0, 1]",
        )
        require(
            len(self.strides) == len(STRIDES),
            f"igcv2.strides must be {len(STRIDES)} numbers",
            self.strides,
        )
        branch_sizes(self.channels, self.branch, self.layers)


def branch_sizes(channels: int, branch: int | None, layers: int | None) -> tuple[int, ...]:
    """Channels of a branch in each of a block's grouped 1x1 convolutions: K_2 .. K_L.

    Args:
        channels: C of the block's input.
        branch: one K for all; None balances: the factors of C with the smallest sum.
        layers: their number; None takes the smallest with ``K ** layers`` >= C.

    Raises:
        ValueError: K does not divide C, C has no such factors, or neither argument is given.

    Example:
        >>> branch_sizes(384, 8, None), branch_sizes(384, None, 3)
        ((8, 8, 8), (6, 8, 8))
    """
    if branch is not None:
        if branch < 2 or channels % branch:
            raise ValueError(f"igcv2.branch={branch} must be >= 2 and divide {channels} channels")
        needed = next(n for n in range(1, channels) if branch**n >= channels)
        return (branch,) * (needed if layers is None else layers)
    if layers is None:
        raise ValueError("igcv2 needs a branch size or a number of layers")
    factors = _balanced(channels, layers)
    if factors is None:
        raise ValueError(f"igcv2.layers={layers}: {channels} channels have no {layers} factors > 1")
    return factors


def _balanced(channels: int, layers: int, least: int = 2) -> tuple[int, ...] | None:
    """The ascending factors with the smallest sum, none below ``least``."""
    if layers == 1:
        return (channels,) if channels >= least else None
    candidates = [
        (factor, *rest)
        for factor in range(least, math.isqrt(channels) + 1)
        if channels % factor == 0
        and (rest := _balanced(channels // factor, layers - 1, factor)) is not None
    ]
    return min(candidates, key=sum, default=None)


class InterleavedPointwise(nn.Sequential):
    """A 1x1 convolution as grouped ones with permutations between them.

    The first one changes the number of channels. Each mixes groups of K neighbouring channels; the
    permutation after it brings together channels that were not mixed yet.

    Args:
        in_channels: C.
        out_channels: C', a multiple of C.
        sizes: K of each convolution, of ``in_channels``.
        norm_eps: of the batch normalisation.
        norm_momentum: of the batch normalisation.

    Raises:
        ValueError: sizes that do not divide the channels, or leave pairs of channels unconnected.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        sizes: tuple[int, ...],
        norm_eps: float = 1e-5,
        norm_momentum: float = 0.1,
    ) -> None:
        if not _is_dense(in_channels, out_channels, sizes):
            raise ValueError(
                f"branches of {sizes} leave some of {in_channels} input and {out_channels} output "
                "channels unconnected (the complementary condition): take more or larger ones"
            )
        norm = norm_layer(norm_eps, norm_momentum)
        super().__init__(*_interleaved(in_channels, out_channels, sizes, norm))


def _interleaved(
    in_channels: int, out_channels: int, sizes: tuple[int, ...], norm: Norm
) -> Iterator[nn.Module]:
    current, groups = in_channels, 0
    for size in sizes:
        if groups:
            yield ChannelPermutation(current, groups)
        if current % size:
            raise ValueError(f"branches of {size} do not divide {current} channels")
        groups = current // size
        yield conv_norm(current, out_channels, 1, norm, groups=groups)
        current = out_channels


@lru_cache(maxsize=64)
def _is_dense(in_channels: int, out_channels: int, sizes: tuple[int, ...]) -> bool:
    with torch.device("meta"):  # no weights are needed, no random numbers are drawn
        layers = list(_interleaved(in_channels, out_channels, sizes, norm_layer(1e-5, 0.1)))
    with torch.device("cpu"):  # whatever device the network is built on
        return bool(path_counts(layers).min() >= 1)


class IGCV2Block(nn.Sequential):
    """Depthwise 3x3, interleaved 1x1 convolutions, ReLU; maps [B, C, H, W] to [B, C', H', W'].

    Args:
        in_channels: C.
        out_channels: C'.
        stride: of the depthwise convolution.
        config: branches and batch normalisation.
    """

    def __init__(
        self, in_channels: int, out_channels: int, stride: int, config: IGCV2Config
    ) -> None:
        norm = norm_layer(config.norm_eps, config.norm_momentum)
        sizes = branch_sizes(in_channels, config.branch, config.layers)
        super().__init__(
            conv_norm(in_channels, in_channels, 3, norm, stride=stride, groups=in_channels),
            InterleavedPointwise(
                in_channels, out_channels, sizes, config.norm_eps, config.norm_momentum
            ),
            nn.ReLU(inplace=True),
        )


class IGCV2(nn.Module):
    """IGCV2 as a classifier of small images.

    Args:
        config: width, depth and branches.
        num_classes: of the classifier.

    Raises:
        ValueError: branches that break the complementary condition.

    Example:
        >>> IGCV2(IGCV2Config(channels=16, blocks=1), 5)(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 5])
    """

    def __init__(self, config: IGCV2Config, num_classes: int = 10) -> None:
        super().__init__()
        norm = norm_layer(config.norm_eps, config.norm_momentum)
        current = config.channels
        self.stem = nn.Sequential(
            conv_norm(3, current, 3, norm, stride=config.strides[0]), nn.ReLU(inplace=True)
        )
        blocks: list[nn.Module] = []
        for stage, stride in enumerate(config.strides[1:]):
            channels = config.channels * 2**stage
            for block in range(config.blocks):
                blocks.append(IGCV2Block(current, channels, stride if block == 0 else 1, config))
                current = channels
        self.blocks = nn.Sequential(*blocks)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(current, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                # the fan of a branch: with the layer's the product of sparse weights would fade
                nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="linear")
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, 0, 0.01)
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Class logits [B, num_classes] of images [B, 3, H, W]."""
        features = self.blocks(self.stem(x))
        logits: Tensor = self.classifier(self.dropout(torch.mean(features, dim=(2, 3))))
        return logits
