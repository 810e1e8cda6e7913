"""MobileNetV2, IGCV3's baseline: torchvision's layers with SSDLite's taps.

Source: Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018, arXiv
1801.04381; section 6.2 has the taps. Names are torchvision's, so its ImageNet state dict loads.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from igcv3det.config import BackboneConfig, Padding
from igcv3det.models.igcv3 import IMAGENET_STRIDES
from igcv3det.models.layers import norm_layer, set_padding
from igcv3det.models.sections import tapped_features

SECTION_STARTS = (0, 1, 2, 4, 7, 11, 14, 17, 18, 19)  # first block of each section, and the end
TAP_BLOCK = 14  # the first 160-channel block, stride 16 to 32
# t, c, n of the paper's table 2
STAGES = ((1, 16, 1), (6, 24, 2), (6, 32, 3), (6, 64, 4), (6, 96, 3), (6, 160, 3), (6, 320, 1))


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
        # Imported here: torchvision takes as long to import as torch
        from torchvision.models.mobilenetv2 import MobileNetV2 as TorchvisionMobileNetV2

        super().__init__()
        source = TorchvisionMobileNetV2(
            num_classes=max(num_classes, 1),
            width_mult=config.width,
            inverted_residual_setting=[
                [*stage, stride] for stage, stride in zip(STAGES, strides[1:], strict=True)
            ],
            norm_layer=norm_layer(config.norm_eps, config.norm_momentum),
            dropout=config.dropout,
        )
        source.features[0][0].stride = (strides[0], strides[0])
        self.features = source.features
        self.classifier = source.classifier if num_classes else None
        tap_conv = self.features[TAP_BLOCK].conv[0][0]
        self.feature_channels = (tap_conv.out_channels, source.last_channel)
        self.feature_reductions = (math.prod(strides[:6]), math.prod(strides))
        if config.zero_init:
            for block in self.features[1:-1]:
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


def mobilenet_v2(
    num_classes: int = 1000, width: float = 1.0, *, dropout: float = 0.2
) -> MobileNetV2:
    """MobileNetV2 for ImageNet's sizes, with torchvision's dropout before the classifier."""
    config = BackboneConfig(name="mobilenetv2", width=width, dropout=dropout)
    return MobileNetV2(config, num_classes)
