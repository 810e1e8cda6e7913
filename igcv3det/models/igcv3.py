"""IGCV3 as a classifier and as a feature extractor; its block is `igcv3det.models.igcv3_block`.

The defaults are what the authors trained and released: ReLU6 after the depthwise only, P1 with
single channels, no P2 (their code computes one and does not use it), no dropout, and an expansion
in the first stage too although t = 1.

Differences between sources: a permutation commutes with the depthwise convolution up to relabelling
its weights, so networks that permute after it (the authors' detection code) are the same family,
but their state dicts do not fit; and ``igcv3_wide`` of that detection code is another network
(stride in the projection, groups 4).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from igcv3det.config import STAGES, BackboneConfig, BlockConfig, Padding
from igcv3det.models.igcv3_block import IGCV3Block
from igcv3det.models.layers import conv_norm, initialise, named, norm_layer, set_padding
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
TAP_STAGE = 5  # the 160-channel stage, whose first expansion is SSDLite's finest map


def round_channels(channels: float, divisor: int) -> int:
    """Nearest whole number of channels, raised to a multiple of ``divisor``.

    With divisor 2 this is the authors' "round, plus one if odd" without two mistakes of their code:
    the width multiplied twice at the first block of a stage, and odd widths that stay odd.

    Example:
        >>> [round_channels(0.7 * c, 2) for c in (16, 24, 64)]
        [12, 18, 46]
    """
    return -(-math.floor(channels + 0.5) // divisor) * divisor


def _scaled(channels: int, config: BackboneConfig) -> int:
    """Channels times the width, in a number that the groups divide."""
    scaled = round_channels(channels * config.width, math.lcm(2, *config.groups))
    if not scaled:
        raise ValueError(
            f"backbone.width {config.width:g} leaves none of {channels} channels; "
            f"{0.5 / channels:g} is the least"
        )
    return scaled


class IGCV3(nn.Module):
    """IGCV3 as a classifier and as a feature extractor.

    At 320x320 the taps of SSDLite are the expansion of the first 160-channel block after ReLU6
    ([B, 576, 20, 20]) and the last 1x1 convolution ([B, 1280, 10, 10]). That ReLU6 belongs to the
    tap (the authors' detection/symbol/symbol_factory.py has it); the block's own path has none.

    Args:
        config: the variant and its numbers.
        num_classes: of the classifier; 0 leaves the classifier out.
        strides: of the stem and the first block of each of the seven stages.
        padding: of strided convolutions.

    Attributes:
        feature_channels: channels of each tap.
        feature_reductions: pixels of the image per cell of each tap.

    Raises:
        ValueError: groups, width and super-channels that do not fit together.

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
        norm = norm_layer(config.norm_eps, config.norm_momentum)
        configs, first, last = block_configs(config), stem_channels(config), last_channels(config)
        self.stage_starts = [sum(block.stage <= n for block in configs) for n in range(STAGES + 1)]
        self.tap_block = self.stage_starts[TAP_STAGE]
        tap = configs[self.tap_block].hidden
        if tap is None:
            raise ValueError(
                f"backbone.blocks: the first block of stage {TAP_STAGE + 1} needs an expansion, "
                "which is SSDLite's fine feature map"
            )
        self.feature_channels = (tap, last)
        self.feature_reductions = (math.prod(strides[: 1 + TAP_STAGE]), math.prod(strides))
        self.stem = conv_norm(3, first, 3, norm, stride=strides[0], relu=True)
        self.blocks = nn.ModuleList(_build(configs, first, strides[1:], config))
        with named("backbone.last_groups"):
            self.last = conv_norm(
                configs[-1].channels, last, 1, norm, groups=config.last_groups, relu=True
            )
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(last, num_classes) if num_classes else None
        self._initialise(config.zero_init)
        set_padding(self, padding)

    def _initialise(self, zero_init: bool) -> None:
        initialise(self)  # the authors' magnitude is He's too
        for module in self.modules():
            if zero_init and isinstance(module, IGCV3Block) and module.shortcut:
                nn.init.zeros_(module.project.get_parameter("1.weight"))

    def forward_features(self, x: Tensor) -> list[Tensor]:
        """The two taps of SSDLite for images [B, 3, H, W], finest first."""
        return tapped_features(self, x)

    def forward_section(self, section: int, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """One section of the network: 0 is the stem, 1 to 7 are the stages, 8 is the last 1x1.

        Args:
            section: its number.
            x: [B, C, H, W], the image for the stem, else the output of the section before.

        Returns:
            The section's output, and SSDLite's fine tap from the stage that has it, else None.
        """
        if section == 0:
            return self.stem(x), None
        if section == NUM_SECTIONS - 1:
            return self.last(x), None
        tap: Tensor | None = None
        for index in range(self.stage_starts[section - 1], self.stage_starts[section]):
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


def block_configs(config: BackboneConfig) -> tuple[BlockConfig, ...]:
    """All blocks of an IGCV3 in order.

    Example:
        >>> block_configs(BackboneConfig())[1]
        BlockConfig(stage=2, channels=24, hidden=96, groups=(2, 2), super_channels=None, \
relu='depthwise', shortcut=False)
    """
    if config.blocks is not None:
        return config.blocks
    widths = CHANNELS_D if config.variant == "D" else CHANNELS_W
    blocks = []
    in_channels = stem_channels(config)
    for stage, repeats in enumerate(stage_repeats(config)):
        channels = _scaled(widths[stage], config)
        for index in range(repeats):
            blocks.append(
                BlockConfig(
                    stage + 1,
                    channels,
                    hidden=in_channels * EXPANSIONS[stage],
                    groups=config.groups,
                    super_channels=config.super_channels,
                    relu=config.relu,
                    shortcut=index > 0,
                )
            )
            in_channels = channels
    return tuple(blocks)


def stem_channels(config: BackboneConfig) -> int:
    """Channels of the first convolution."""
    if config.stem_channels is not None:
        return config.stem_channels
    return _scaled(STEM_CHANNELS, config)


def last_channels(config: BackboneConfig) -> int:
    """Channels of the last 1x1 convolution."""
    if config.last_channels is not None:
        return config.last_channels
    divisor = math.lcm(2, *config.groups)
    return round_channels(LAST_CHANNELS * max(config.width, 1.0), divisor)


def _build(
    configs: Sequence[BlockConfig], in_channels: int, strides: Sequence[int], config: BackboneConfig
) -> Iterator[IGCV3Block]:
    norm = norm_layer(config.norm_eps, config.norm_momentum)
    stage = 0
    for index, block in enumerate(configs):
        stride = strides[block.stage - 1] if block.stage > stage else 1
        place = f"backbone.blocks[{index}]" if config.blocks else f"backbone, block {index}"
        with named(place):
            own = IGCV3Block(
                in_channels, block, stride=stride, norm=norm, p1=config.p1, p2=config.p2
            )
        yield own
        in_channels, stage = block.channels, block.stage


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
        depth: multiplier of the numbers of blocks in the middle stages; the authors' 0.5x and 0.7x
            networks on CIFAR are less deep.
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
