"""IGCV3: interleaved low-rank group convolutions.

Source: Sun, Li, Liu, Wang, "IGCV3: Interleaved Low-Rank Group Convolutions for Efficient Deep
Neural Networks", BMVC 2018, arXiv 1806.00178, and the authors' code (github.com/homles11/IGCV3,
symbols/igcv3.py).

A block is three convolutions, each followed by batch normalisation::

    expansion   1x1, G1 groups, C -> t C
    P1          permutation of the super-channels
    depthwise   3x3, stride, then ReLU6
    projection  1x1, G2 groups, t C -> C'
    shortcut    where C = C' and the stride is 1, in blocks after the first of a stage

The defaults are what the authors trained and released: ReLU6 after the depthwise only, P1 with
single channels, no P2 (their code computes one and does not use it), no dropout, and an expansion
in the first stage too although t = 1. Two facts about sources that differ: a permutation commutes
with the depthwise convolution up to relabelling its weights, so networks that permute after it (the
authors' detection code) are the same family, but their state dicts do not fit; and ``igcv3_wide``
of that detection code is another network (stride in the projection, groups 4).
"""

from __future__ import annotations

import math
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from igcv3det.config import BackboneConfig, Padding
from igcv3det.models.layers import ChannelPermutation, conv_norm, norm_layer, set_padding
from igcv3det.models.sections import NUM_SECTIONS, tapped_features

EXPANSIONS = (1, 6, 6, 6, 6, 6, 6)
CHANNELS_D = (16, 24, 32, 64, 96, 160, 320)
CHANNELS_W = (32, 48, 64, 128, 192, 320, 640)
REPEATS_D = (1, 4, 6, 8, 6, 6, 1)
REPEATS_W = (1, 2, 3, 4, 3, 3, 1)  # MobileNetV2's
IMAGENET_STRIDES = (2, 1, 2, 2, 2, 1, 2, 1)
CIFAR_STRIDES = (1, 1, 1, 2, 2, 1, 1, 1)
STEM_CHANNELS = 32
LAST_CHANNELS = 1280
TAP_STAGE = 5  # the 160-channel stage: its first expansion is the finest map of SSDLite


def round_channels(channels: float, divisor: int) -> int:
    """Nearest whole number of channels, raised to a multiple of ``divisor``.

    With divisor 2 this is the authors' "round, plus one if odd" without their two slips (the width
    multiplied twice at the first block of a stage, and an odd width repaired to another odd one).

    Example:
        >>> [round_channels(0.7 * c, 2) for c in (16, 24, 64)]
        [12, 18, 46]
    """
    return -(-math.floor(channels + 0.5) // divisor) * divisor


def check_complementary(permutation: ChannelPermutation, groups: tuple[int, int]) -> None:
    """Makes sure that every projection group sees channels of every expansion group.

    This is the loose complementary condition (paper section 3.2): it makes the product of the two
    grouped convolutions and the permutation dense, so every input reaches every output.

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


class IGCV3Block(nn.Module):
    """Expansion, permutation, depthwise convolution and projection, with a shortcut where it fits.

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
        for count, channels, what in (
            (first, in_channels, "G1 must divide the block's input"),
            (second, expanded, "G2 must divide the expanded"),
            (second, out_channels, "G2 must divide the block's output"),
        ):
            if count < 1 or channels % count:
                raise ValueError(f"groups={config.groups}: {what} channels, here {channels}")
        norm = norm_layer(config.norm_eps, config.norm_momentum)
        self.shortcut = shortcut
        self.expand = conv_norm(
            in_channels,
            expanded,
            1,
            norm,
            groups=first,
            relu=config.relu in ("expansion", "both"),
        )
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
        """The rest of the block, for those who want the expansion itself as a feature map."""
        out: Tensor = self.p2(self.project(self.depthwise(self.p1(expanded))))
        return x + out if self.shortcut else out


class IGCV3(nn.Module):
    """IGCV3 as a classifier and as a feature extractor.

    At 320x320 the taps of SSDLite are the expansion of the first 160-channel block after ReLU6
    ([B, 576, 20, 20]) and the last 1x1 convolution ([B, 1280, 10, 10]); the ReLU6 belongs to the
    tap (the authors' detection/symbol/symbol_factory.py has it), the block itself goes on without.

    Args:
        config: the variant and its numbers.
        num_classes: of the classifier; 0 leaves the classifier out.
        strides: of the stem and the first block of each of the seven stages.
        padding: of strided convolutions.

    Attributes:
        feature_channels: channels of each tap.
        feature_reductions: pixels of the image per cell of each tap.

    Raises:
        ValueError: groups, width or super-channels that do not fit one another.

    Example:
        >>> sum(p.numel() for p in IGCV3(BackboneConfig()).parameters())
        3491688
    """

    def __init__(
        self,
        config: BackboneConfig,
        num_classes: int = 1000,
        *,
        strides: tuple[int, ...] = IMAGENET_STRIDES,
        padding: Padding = "symmetric",
    ) -> None:
        super().__init__()
        divisor = math.lcm(2, *config.groups)
        norm = norm_layer(config.norm_eps, config.norm_momentum)
        widths = CHANNELS_D if config.variant == "D" else CHANNELS_W
        channels = [round_channels(c * config.width, divisor) for c in widths]
        last = round_channels(LAST_CHANNELS * max(config.width, 1.0), divisor)
        current = round_channels(STEM_CHANNELS * config.width, divisor)
        self.stem = conv_norm(3, current, 3, norm, stride=strides[0], relu=True)
        blocks: list[IGCV3Block] = []
        self.stage_starts = [0]
        for stage, repeats in enumerate(stage_repeats(config)):
            if stage == TAP_STAGE:
                self.tap_block = len(blocks)
                self.feature_channels = (current * EXPANSIONS[stage], last)
            for block in range(repeats):
                blocks.append(
                    IGCV3Block(
                        current,
                        channels[stage],
                        stride=strides[1 + stage] if block == 0 else 1,
                        expansion=EXPANSIONS[stage],
                        shortcut=block > 0,
                        config=config,
                    )
                )
                current = channels[stage]
            self.stage_starts.append(len(blocks))
        self.blocks = nn.ModuleList(blocks)
        self.last = conv_norm(current, last, 1, norm, relu=True)
        self.feature_reductions = (math.prod(strides[: 1 + TAP_STAGE]), math.prod(strides))
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(last, num_classes) if num_classes else None
        self._initialise(config.zero_init)
        set_padding(self, padding)

    def _initialise(self, zero_init: bool) -> None:
        # He's rule over the fan-out, as torchvision's MobileNetV2; the authors' is He's in
        # magnitude too
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, 0, 0.01)
                nn.init.zeros_(module.bias)
            elif zero_init and isinstance(module, IGCV3Block) and module.shortcut:
                nn.init.zeros_(module.project.get_parameter("1.weight"))

    def forward_features(self, x: Tensor) -> list[Tensor]:
        """The two taps of SSDLite for images [B, 3, H, W], finest first."""
        return tapped_features(self, x)

    def forward_section(self, part: int, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """One part of the network: 0 is the stem, 1 to 7 are the stages, 8 is the last 1x1.

        Args:
            part: which.
            x: [B, C, H, W], the image for the stem, else the output of the part before.

        Returns:
            The part's output, and the fine tap of SSDLite from the stage that holds it.
        """
        if part == 0:
            return self.stem(x), None
        if part == NUM_SECTIONS - 1:
            return self.last(x), None
        tap: Tensor | None = None
        for index in range(self.stage_starts[part - 1], self.stage_starts[part]):
            block = cast(IGCV3Block, self.blocks[index])
            expanded = block.expand(x)
            if index == self.tap_block:
                tap = F.relu6(expanded)
            x = block.after_expansion(expanded, x)
        return x, tap

    def forward(self, x: Tensor) -> Tensor:
        """Class logits [B, num_classes] of images [B, 3, H, W].

        Raises:
            ValueError: the network was built without a classifier.
        """
        if self.classifier is None:
            raise ValueError("this IGCV3 has no classifier (num_classes=0); use forward_features()")
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        pooled = torch.mean(self.last(x), dim=(2, 3))  # [B, last]
        logits: Tensor = self.classifier(self.dropout(pooled))
        return logits


def stage_repeats(config: BackboneConfig) -> tuple[int, ...]:
    """Blocks in each of the seven stages; ``depth`` scales all but the first and the last.

    Example:
        >>> stage_repeats(BackboneConfig(depth=0.5))
        (1, 2, 3, 4, 3, 3, 1)
    """
    if config.repeats is not None:
        return config.repeats
    first, *middle, last = REPEATS_D if config.variant == "D" else REPEATS_W
    scaled = [max(1, math.floor(n * config.depth + 0.5)) for n in middle]
    return (first, *scaled, last)


def igcv3_d(
    num_classes: int = 1000,
    width: float = 1.0,
    *,
    depth: float = 1.0,
    groups: tuple[int, int] = (2, 2),
    cifar: bool = False,
) -> IGCV3:
    """IGCV3-D: MobileNetV2's widths, twice its depth.

    Args:
        num_classes: of the classifier.
        width: multiplier of the channels.
        depth: multiplier of the blocks in the middle stages; the authors' 0.5x and 0.7x on CIFAR
            cut depth.
        groups: (G1, G2).
        cifar: strides for 32x32 images (8x8 before pooling) instead of ImageNet's.
    """
    config = BackboneConfig(width=width, depth=depth, groups=groups)
    return IGCV3(config, num_classes, strides=CIFAR_STRIDES if cifar else IMAGENET_STRIDES)


def igcv3_w(
    num_classes: int = 1000,
    width: float = 1.0,
    *,
    depth: float = 1.0,
    groups: tuple[int, int] = (2, 2),
    cifar: bool = False,
) -> IGCV3:
    """IGCV3-W: MobileNetV2's depth, twice its widths (the authors' igcv3_wider.py).

    The arguments are `igcv3_d`'s.
    """
    config = BackboneConfig(variant="W", width=width, depth=depth, groups=groups)
    return IGCV3(config, num_classes, strides=CIFAR_STRIDES if cifar else IMAGENET_STRIDES)
