"""SSDLite's layers: extra feature maps and depthwise-separable prediction layers.

Source: MobileNetV2 (arXiv 1801.04381) section 6.2; torchvision's models/detection/ssdlite.py and
TensorFlow's ssdlite_mobilenet_v2_coco.config agree on the shapes. The authors of IGCV3 group the
1x1 convolutions of their extra layers; here they are dense for both backbones, so that comparing
two detectors compares their backbones only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from igcv3det.config import HeadConfig
from igcv3det.models.layers import conv_norm, norm_layer
from igcv3det.structures import HeadOutputs

CLASS_PRIOR = 0.01
"""Initial score of every class in a sigmoid head (RetinaNet)."""


class ExtraLayers(nn.Module):
    """Maps of half the size each: 1x1 to half the channels, 3x3 depthwise at stride 2, 1x1.

    Args:
        in_channels: of the backbone's last map.
        config: channels of each map, batch normalisation, initial weights.
    """

    def __init__(self, in_channels: int, config: HeadConfig) -> None:
        super().__init__()
        norm = norm_layer(config.norm_eps, config.norm_momentum)
        layers: list[nn.Module] = []
        for channels in config.extra_channels:
            squeezed = channels // 2
            layers.append(
                nn.Sequential(
                    conv_norm(in_channels, squeezed, 1, norm, relu=True),
                    conv_norm(squeezed, squeezed, 3, norm, stride=2, groups=squeezed, relu=True),
                    conv_norm(squeezed, channels, 1, norm, relu=True),
                )
            )
            in_channels = channels
        self.layers = nn.ModuleList(layers)
        _initialise(self, config.init_std)

    def forward(self, x: Tensor) -> list[Tensor]:
        """The extra maps of the backbone's last one [B, C, H, W], finest first."""
        maps: list[Tensor] = []
        for layer in self.layers:
            x = layer(x)
            maps.append(x)
        return maps


class SSDLiteHead(nn.Module):
    """Classification and box regression of every anchor, one pair of prediction layers per map.

    Args:
        in_channels: channels of each map.
        anchors_per_cell: anchors of each map's cells.
        num_classes: K, without the background.
        config: activation, batch normalisation, initial weights.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        anchors_per_cell: Sequence[int],
        num_classes: int,
        config: HeadConfig,
    ) -> None:
        super().__init__()
        columns = num_classes + 1
        pairs = list(zip(in_channels, anchors_per_cell, strict=True))
        self.classification = nn.ModuleList(
            _prediction_layer(channels, count * columns, config) for channels, count in pairs
        )
        self.regression = nn.ModuleList(
            _prediction_layer(channels, count * 4, config) for channels, count in pairs
        )
        self.columns = columns
        _initialise(self, config.init_std)
        if config.activation == "sigmoid":
            for layer in self.classification:
                nn.init.constant_(
                    layer.get_parameter("1.bias"), -math.log((1 - CLASS_PRIOR) / CLASS_PRIOR)
                )

    def forward(self, features: Sequence[Tensor]) -> HeadOutputs:
        """Predictions of all maps in order: cells row by row, the anchors of a cell together."""
        logits = [
            _rows(layer(x), self.columns)
            for layer, x in zip(self.classification, features, strict=True)
        ]
        offsets = [_rows(layer(x), 4) for layer, x in zip(self.regression, features, strict=True)]
        return HeadOutputs(torch.cat(logits, dim=1), torch.cat(offsets, dim=1))


def _prediction_layer(in_channels: int, out_channels: int, config: HeadConfig) -> nn.Sequential:
    depthwise = conv_norm(
        in_channels,
        in_channels,
        3,
        norm_layer(config.norm_eps, config.norm_momentum),
        groups=in_channels,
        relu=True,
    )
    return nn.Sequential(depthwise, nn.Conv2d(in_channels, out_channels, 1))


def _rows(x: Tensor, columns: int) -> Tensor:
    # [B, A * columns, H, W] -> [B, H * W * A, columns]
    return x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, columns)


def _initialise(module: nn.Module, std: float) -> None:
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, std=std)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
