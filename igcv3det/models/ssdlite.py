"""SSDLite's layers: extra feature maps and depthwise-separable prediction layers.

Source: MobileNetV2 (arXiv 1801.04381) section 6.2; torchvision's models/detection/ssdlite.py and
TensorFlow's ssdlite_mobilenet_v2_coco.config agree on the shapes. The authors of IGCV3 group the
1x1 convolutions of their extra layers; here they are dense for both backbones, so that comparing
two detectors compares their backbones only, unless `HeadConfig` groups or narrows them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from igcv3det.config import Groups, HeadConfig
from igcv3det.models.igcv3_block import check_complementary, check_groups
from igcv3det.models.layers import ChannelPermutation, conv_norm, named, norm_layer
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
        layers: list[nn.Module] = []
        for index, channels in enumerate(config.extra_channels):
            half = max(1, channels // 2)
            hidden = half if config.extra_hidden is None else config.extra_hidden[index]
            groups = (1, 1) if config.extra_groups is None else config.extra_groups[index]
            with named(f"head.extra_groups[{index}]"):
                layers.append(ExtraLayer(in_channels, hidden, channels, groups, config))
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


class ExtraLayer(nn.Sequential):
    """1x1, a permutation where it is grouped, 3x3 depthwise at stride 2, 1x1, each with ReLU6.

    Args:
        in_channels: C.
        hidden: channels between the 1x1 convolutions.
        out_channels: C'.
        groups: (G1, G2) of the 1x1 convolutions.
        config: batch normalisation.

    Raises:
        ValueError: groups that do not divide the channels.
    """

    PARTS = ("0", "1", "2")
    """Names of the three convolutions, each an `nn.Sequential` that starts with it."""

    def __init__(
        self, in_channels: int, hidden: int, out_channels: int, groups: Groups, config: HeadConfig
    ) -> None:
        check_groups(groups, in_channels, hidden, out_channels)
        first, second = groups
        norm = norm_layer(config.norm_eps, config.norm_momentum)
        super().__init__(
            conv_norm(in_channels, hidden, 1, norm, groups=first, relu=True),
            conv_norm(hidden, hidden, 3, norm, stride=2, groups=hidden, relu=True),
            conv_norm(hidden, out_channels, 1, norm, groups=second, relu=True),
        )
        self.p1: nn.Module = nn.Identity()
        self.p2 = nn.Identity()
        if first > 1:
            self.p1 = ChannelPermutation(hidden, first)
            check_complementary(self.p1, groups)

    def forward(self, x: Tensor) -> Tensor:
        """Maps [B, C, H, W] to [B, C', ceil(H / 2), ceil(W / 2)]."""
        for layer in self.parts():
            x = layer(x)
        return x

    def parts(self) -> list[nn.Module]:
        """All layers in the order in which they run."""
        expand, depthwise, project = (self.get_submodule(name) for name in self.PARTS)
        return [expand, self.p1, depthwise, project, self.p2]


class StrideEightMap(nn.Module):
    """A map of stride 8 with the meaning of the one of stride 16: both by 1x1, added, ReLU6.

    Source: Lin et al., Feature Pyramid Networks, arXiv:1612.03144, section 3, "Top-down pathway and
    lateral connections"; here for one level, without the 3x3 convolution after the sum, since the
    prediction layers begin with one.

    Args:
        shallow_channels: of the backbone's map of stride 8.
        tap_channels: of SSDLite's first map, of stride 16.
        config: channels of the result, batch normalisation, initial weights.
    """

    def __init__(self, shallow_channels: int, tap_channels: int, config: HeadConfig) -> None:
        super().__init__()
        norm = norm_layer(config.norm_eps, config.norm_momentum)
        self.lateral = conv_norm(shallow_channels, config.stride8_channels, 1, norm)
        self.top = conv_norm(tap_channels, config.stride8_channels, 1, norm)
        _initialise(self, config.init_std)

    def forward(self, shallow: Tensor, tap: Tensor) -> Tensor:
        """Maps [B, C, H, W] and [B, C', ceil(H / 2), ceil(W / 2)] to one of the first's size."""
        # By 2 and cropped: to an odd size litert-torch 0.10 samples other cells than PyTorch
        raised = F.interpolate(self.top(tap), scale_factor=2.0, mode="nearest")
        if raised.shape[-2:] != shallow.shape[-2:]:
            raised = raised[..., : shallow.shape[-2], : shallow.shape[-1]]
        return F.relu6(self.lateral(shallow) + raised)


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
        self.classification = nn.ModuleList()
        for level, (channels, count) in enumerate(pairs):
            with named(f"head.class_groups[{level}]"):
                own = _prediction_layer(channels, count * columns, config, *_split(config, level))
            self.classification.append(own)
        self.regression = nn.ModuleList(
            _prediction_layer(channels, count * 4, config) for channels, count in pairs
        )
        self.columns = columns
        _initialise(self, config.init_std)
        if config.activation == "sigmoid":
            for layer in self.class_layers().values():
                nn.init.constant_(
                    layer.get_parameter("bias"), -math.log((1 - CLASS_PRIOR) / CLASS_PRIOR)
                )

    def class_layers(self) -> dict[str, nn.Conv2d]:
        """The 1x1 that gives the scores of each map by its name, the last of its layers."""
        found = {}
        for level, layer in enumerate(self.classification):
            assert isinstance(layer, nn.Sequential)
            predict = layer[-1]
            assert isinstance(predict, nn.Conv2d)
            found[f"classification.{level}.{len(layer) - 1}"] = predict
        return found

    def forward(self, features: Sequence[Tensor]) -> HeadOutputs:
        """Predictions of all maps in order: cells row by row, the anchors of a cell together."""
        logits = [
            prediction_rows(layer(x), self.columns)
            for layer, x in zip(self.classification, features, strict=True)
        ]
        offsets = [
            prediction_rows(layer(x), 4) for layer, x in zip(self.regression, features, strict=True)
        ]
        return HeadOutputs(torch.cat(logits, dim=1), torch.cat(offsets, dim=1))


def _split(config: HeadConfig, level: int) -> tuple[int | None, Groups]:
    rank = None if config.class_ranks is None else config.class_ranks[level]
    return rank, (1, 1) if config.class_groups is None else config.class_groups[level]


def _prediction_layer(
    in_channels: int,
    out_channels: int,
    config: HeadConfig,
    rank: int | None = None,
    groups: Groups = (1, 1),
) -> nn.Sequential:
    """Depthwise 3x3 and a 1x1, or two 1x1 of that rank with a permutation if they are grouped."""
    depthwise = conv_norm(
        in_channels,
        in_channels,
        3,
        norm_layer(config.norm_eps, config.norm_momentum),
        groups=in_channels,
        relu=True,
    )
    if rank is None:
        return nn.Sequential(depthwise, nn.Conv2d(in_channels, out_channels, 1))
    check_groups(groups, in_channels, rank, out_channels)
    first, second = groups
    reduce = nn.Conv2d(in_channels, rank, 1, groups=first, bias=False)
    predict = nn.Conv2d(rank, out_channels, 1, groups=second)
    if first == 1:
        return nn.Sequential(depthwise, reduce, predict)
    permutation = ChannelPermutation(rank, first)
    check_complementary(permutation, groups)
    return nn.Sequential(depthwise, reduce, permutation, predict)


def prediction_rows(x: Tensor, columns: int) -> Tensor:
    """One row for each anchor: [B, A * columns, H, W] to [B, H * W * A, columns]."""
    return x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, columns)


def _initialise(module: nn.Module, std: float) -> None:
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, std=std)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
