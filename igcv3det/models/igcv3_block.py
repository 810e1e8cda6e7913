"""IGCV3's block: interleaved low-rank group convolutions.

Source: Sun, Li, Liu, Wang, "IGCV3: Interleaved Low-Rank Group Convolutions for Efficient Deep
Neural Networks", BMVC 2018, arXiv 1806.00178, and the authors' code (github.com/homles11/IGCV3,
symbols/igcv3.py). Three convolutions, each followed by batch normalisation::

    expansion   1x1, G1 groups, C -> t C
    P1          permutation of the super-channels
    depthwise   3x3, stride, then ReLU6
    projection  1x1, G2 groups, t C -> C'
    shortcut    where C = C' and the stride is 1, in blocks after the first of a stage
"""

from __future__ import annotations

import numpy as np
from torch import Tensor, nn

from igcv3det.config import BackboneConfig
from igcv3det.models.layers import ChannelPermutation, conv_norm, norm_layer


class IGCV3Block(nn.Module):
    """Expansion, permutation, depthwise convolution and projection, with an optional shortcut.

    Args:
        in_channels: C.
        out_channels: C'.
        stride: of the depthwise convolution.
        expansion: t.
        shortcut: adds the input to the output.
        config: groups, super-channels, ReLU placement, P1, P2 and batch normalisation.

    Raises:
        ValueError: groups that do not divide the channels, or that break the complementary
            condition.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        stride: int,
        expansion: int,
        shortcut: bool,
        config: BackboneConfig,
    ) -> None:
        super().__init__()
        first, second = config.groups
        expanded = in_channels * expansion
        _check_groups(config.groups, in_channels, expanded, out_channels)
        norm = norm_layer(config.norm_eps, config.norm_momentum)
        self.shortcut = shortcut
        relu = config.relu in ("expansion", "both")
        self.expand = conv_norm(in_channels, expanded, 1, norm, groups=first, relu=relu)
        self.p1: nn.Module = nn.Identity()
        if config.p1:
            self.p1 = ChannelPermutation(expanded, first, config.super_channels)
            check_complementary(self.p1, config.groups)
        self.depthwise = conv_norm(
            expanded,
            expanded,
            3,
            norm,
            stride=stride,
            groups=expanded,
            relu=config.relu in ("depthwise", "both"),
        )
        self.project = conv_norm(expanded, out_channels, 1, norm, groups=second)
        self.p2: nn.Module = nn.Identity()
        if config.p2:
            self.p2 = ChannelPermutation(out_channels, second, config.super_channels).inverse()

    def forward(self, x: Tensor) -> Tensor:
        """Maps [B, C, H, W] to [B, C', ceil(H / stride), ceil(W / stride)]."""
        return self.after_expansion(self.expand(x), x)

    def after_expansion(self, expanded: Tensor, x: Tensor) -> Tensor:
        """The block without its expansion, for callers that use the expansion as a feature map.

        Args:
            expanded: [B, t C, H, W], output of ``expand``.
            x: [B, C, H, W], the block's input.
        """
        out: Tensor = self.p2(self.project(self.depthwise(self.p1(expanded))))
        return x + out if self.shortcut else out


def check_complementary(permutation: ChannelPermutation, groups: tuple[int, int]) -> None:
    """Checks that every projection group sees channels of every expansion group.

    This is the loose complementary condition (paper section 3.2). It makes the product of the two
    grouped convolutions and the permutation dense: every input channel reaches every output.

    Raises:
        ValueError: naming the groups that do not meet.
    """
    expanded = permutation.channels
    source = permutation.index // (expanded // groups[0])
    for projection, channels in enumerate(np.split(source, groups[1])):
        missing = set(range(groups[0])) - set(channels.tolist())
        if missing:
            raise ValueError(
                f"groups={groups} with super_channels={permutation.pieces} on {expanded} expanded "
                f"channels breaks the complementary condition: projection group {projection} gets "
                f"nothing of expansion groups {sorted(missing)}; take super_channels=None or a "
                f"multiple of {groups[0] * groups[1]}"
            )


def _check_groups(
    groups: tuple[int, int], in_channels: int, expanded: int, out_channels: int
) -> None:
    first, second = groups
    for count, channels, what in (
        (first, in_channels, "G1 must divide the block's input"),
        (second, expanded, "G2 must divide the expanded"),
        (second, out_channels, "G2 must divide the block's output"),
    ):
        if channels % count:
            raise ValueError(f"groups={groups}: {what} channels, here {channels}")
