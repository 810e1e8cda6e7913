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

from igcv3det.config import BlockConfig, Groups
from igcv3det.models.layers import ChannelPermutation, Norm, conv_norm


class IGCV3Block(nn.Module):
    """Expansion, permutation, depthwise convolution and projection, with an optional shortcut.

    Args:
        in_channels: C.
        config: C', t C, groups, super-channels, ReLU placement and shortcut.
        stride: of the depthwise convolution.
        norm: batch normalisation.
        p1: permutes before the projection.
        p2: permutes after the projection.

    Raises:
        ValueError: groups that do not divide the channels, or that break the complementary
            condition; or a shortcut between different shapes.
    """

    PARTS = ("expand", "depthwise", "project")
    """Names of the three convolutions, each an `nn.Sequential` that starts with it."""

    def __init__(
        self,
        in_channels: int,
        config: BlockConfig,
        *,
        stride: int,
        norm: Norm,
        p1: bool = True,
        p2: bool = False,
    ) -> None:
        super().__init__()
        first, second = config.groups
        hidden = in_channels if config.hidden is None else config.hidden
        check_groups(config.groups, in_channels, hidden, config.channels)
        if config.shortcut and (stride > 1 or in_channels != config.channels):
            raise ValueError(
                f"stage {config.stage}: a shortcut needs stride 1 and equal channels, not stride "
                f"{stride} and {in_channels} to {config.channels}"
            )
        self.shortcut = config.shortcut
        self.expand: nn.Module = nn.Identity()
        if config.hidden is not None:
            relu = config.relu in ("expansion", "both")
            self.expand = conv_norm(in_channels, hidden, 1, norm, groups=first, relu=relu)
        self.p1: nn.Module = nn.Identity()
        if p1 and first > 1:
            self.p1 = ChannelPermutation(hidden, first, config.super_channels)
            check_complementary(self.p1, config.groups)
        relu = config.relu in ("depthwise", "both")
        self.depthwise = conv_norm(hidden, hidden, 3, norm, stride=stride, groups=hidden, relu=relu)
        self.project = conv_norm(hidden, config.channels, 1, norm, groups=second)
        self.p2: nn.Module = nn.Identity()
        if p2 and second > 1:
            self.p2 = ChannelPermutation(config.channels, second, config.super_channels).inverse()

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


def check_complementary(permutation: ChannelPermutation, groups: Groups) -> None:
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
            product = groups[0] * groups[1]
            advice = f"super_channels=None or a multiple of {product}"
            if product > expanded:  # single channels are too few as well
                advice = f"fewer groups: G1 * G2 of at most {expanded}"
            raise ValueError(
                f"groups={groups} with super_channels={permutation.pieces} on {expanded} expanded "
                f"channels breaks the complementary condition: projection group {projection} gets "
                f"nothing of {len(missing)} of the {groups[0]} expansion groups, such as "
                f"{min(missing)}; take {advice}"
            )


def check_groups(groups: Groups, in_channels: int, expanded: int, out_channels: int) -> None:
    """Checks that (G1, G2) divide the channels around two 1x1 convolutions.

    Raises:
        ValueError: naming the channels that they do not divide.
    """
    first, second = groups
    for count, channels, what in (
        (first, in_channels, "G1 must divide the input"),
        (first, expanded, "G1 must divide the expanded"),
        (second, expanded, "G2 must divide the expanded"),
        (second, out_channels, "G2 must divide the output"),
    ):
        if channels % count:
            raise ValueError(f"groups={groups}: {what} channels, here {channels}")
