"""MobileNetV2, IGCV3's baseline, with SSDLite's taps.

Source: Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018, arXiv
1801.04381; section 6.2 has the taps. Layers, names and initial weights are those of torchvision
(models/mobilenetv2.py), so its ImageNet state dict loads. They are not imported from there:
torchvision takes as long to import as torch, and the default detector is a MobileNetV2.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from igcv3det.config import BackboneConfig, Padding
from igcv3det.models.igcv3 import (
    IMAGENET_STRIDES,
    LAST_CHANNELS,
    STEM_CHANNELS,
)
from igcv3det.models.layers import Norm, conv_norm, initialise, norm_layer, set_padding
from igcv3det.models.sections import tapped_features

SECTION_STARTS = (0, 1, 2, 4, 7, 11, 14, 17, 18, 19)  # first block of each section, and the end
TAP_BLOCK = 14  # the first 160-channel block, stride 16 to 32
DIVISOR = 8  # of all widths
# t, c, n of the paper's table 2
STAGES = ((1, 16, 1), (6, 24, 2), (6, 32, 3), (6, 64, 4), (6, 96, 3), (6, 160, 3), (6, 320, 1))


class InvertedResidual(nn.Module):
    """Expansion, depthwise 3x3 and projection, each normalised; the first two with ReLU6.

    Args:
        in_channels: of the input.
        out_channels: of the output.
        stride: of the depthwise convolution.
        expansion: t, hidden channels per input channel; 1 leaves the expansion out.
        norm: constructor of the norms.
    """

    def __init__(
        self, in_channels: int, out_channels: int, stride: int, expansion: int, norm: Norm
    ) -> None:
        super().__init__()
        hidden = in_channels * expansion
        self.out_channels = out_channels
        self.use_res_connect = stride == 1 and in_channels == out_channels
        layers: list[nn.Module] = []
        if expansion != 1:
            layers.append(conv_norm(in_channels, hidden, 1, norm, relu=True))
        depthwise = conv_norm(hidden, hidden, 3, norm, stride=stride, groups=hidden, relu=True)
        project = nn.Conv2d(hidden, out_channels, 1, bias=False)
        self.conv = nn.Sequential(*layers, depthwise, project, norm(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to [B, C', H', W']."""
        y: Tensor = self.conv(x)
        return x + y if self.use_res_connect else y


class MobileNetV2(nn.Module):
    """MobileNetV2 as a classifier and as a feature extractor.

    At 320x320 the taps of SSDLite are the expansion of the first 160-channel block ([B, 576, 20,
    20]) and the last 1x1 convolution ([B, 1280, 10, 10]), each after batch normalisation and ReLU6.

    Args:
        config: width, dropout, zero_init and batch normalisation are taken from it.
        num_classes: of the classifier; 0 leaves the classifier out.
        strides: of the stem and the first block of each of the seven stages.
        padding: of strided convolutions.

    Attributes:
        feature_channels: channels of each tap.
        feature_reductions: pixels of the image per cell of each tap.

    Example:
        >>> sum(p.numel() for p in MobileNetV2(BackboneConfig(name="mobilenetv2")).parameters())
        3504872
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
        channels = _divisible(STEM_CHANNELS * config.width)
        last_channels = _divisible(LAST_CHANNELS * max(config.width, 1.0))
        layers: list[nn.Module] = [conv_norm(3, channels, 3, norm, stride=strides[0], relu=True)]
        for (expansion, wide, count), stride in zip(STAGES, strides[1:], strict=True):
            out_channels = _divisible(wide * config.width)
            for n in range(count):
                own = stride if n == 0 else 1
                layers.append(InvertedResidual(channels, out_channels, own, expansion, norm))
                channels = out_channels
        layers.append(conv_norm(channels, last_channels, 1, norm, relu=True))
        features: Any = nn.Sequential(*layers)
        self.features = features
        classifier = nn.Linear(last_channels, max(num_classes, 1))
        self.classifier: nn.Module | None = nn.Sequential(nn.Dropout(config.dropout), classifier)
        initialise(self)
        if not num_classes:  # made for the same random numbers with and without
            self.classifier = None
        tap_conv: nn.Conv2d = features[TAP_BLOCK].conv[0][0]
        self.feature_channels = (tap_conv.out_channels, last_channels)
        self.feature_reductions = (math.prod(strides[:6]), math.prod(strides))
        if config.zero_init:
            for block in features[1:-1]:
                if block.use_res_connect:
                    nn.init.zeros_(block.conv[-1].weight)
        set_padding(self, padding)

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
        tap: Tensor | None = None
        for index in range(SECTION_STARTS[section], SECTION_STARTS[section + 1]):
            block = self.features[index]
            if index == TAP_BLOCK:
                expand, *rest = block.conv
                tap = expand(x)
                x = nn.Sequential(*rest)(tap)  # the first block of a stage has no shortcut
            else:
                x = block(x)
        return x, tap

    def forward(self, x: Tensor) -> Tensor:
        """Class logits [B, num_classes] of images [B, 3, H, W].

        Raises:
            ValueError: the network was built without a classifier.
        """
        if self.classifier is None:
            raise ValueError("this MobileNetV2 has no classifier (num_classes=0)")
        logits: Tensor = self.classifier(torch.mean(self.features(x), dim=(2, 3)))
        return logits


def _divisible(channels: float) -> int:
    """The nearest multiple of `DIVISOR` that is not less than 90 % of the channels."""
    nearest = max(DIVISOR, int(channels + DIVISOR / 2) // DIVISOR * DIVISOR)
    return nearest + DIVISOR * (nearest < 0.9 * channels)


def mobilenet_v2(
    num_classes: int = 1000, width: float = 1.0, *, dropout: float = 0.2
) -> MobileNetV2:
    """MobileNetV2 for ImageNet's sizes, with torchvision's dropout before the classifier."""
    config = BackboneConfig(name="mobilenetv2", width=width, dropout=dropout)
    return MobileNetV2(config, num_classes)
