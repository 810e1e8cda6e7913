"""SSDLite on IGCV3 or MobileNetV2: joins the networks and the anchors.

At 320x320 with IGCV3-D 1.0 or MobileNetV2 1.0:

=====  ==========================================  ====  =======  ======  =======
map    source                                      C     H, W     stride  anchors
=====  ==========================================  ====  =======  ======  =======
0      expansion of the first 160-channel block    576   20, 20   16      2400
1      last 1x1 convolution                        1280  10, 10   32      600
2      extra layer                                 512   5, 5     64      150
3      extra layer                                 256   3, 3     107     54
4      extra layer                                 256   2, 2     160     24
5      extra layer                                 128   1, 1     320     6
=====  ==========================================  ====  =======  ======  =======

3234 anchors in all, six a cell; TensorFlow's layout has three a cell on map 0 (1917 at 300x300).
``anchors.stride8_scale`` puts a map of stride 8 before these, for small objects.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol, cast

from torch import Tensor, nn

from igcv3det.config import AnchorConfig, BackboneConfig, DetectorConfig, Padding
from igcv3det.detection.anchors import anchors_per_cell, generate_anchors
from igcv3det.models.igcv3 import IGCV3, IMAGENET_STRIDES
from igcv3det.models.layers import set_padding
from igcv3det.models.mobilenetv2 import SECTION_STARTS, MobileNetV2
from igcv3det.models.sections import NUM_SECTIONS, SectionedBackbone
from igcv3det.models.ssdlite import ExtraLayers, SSDLiteHead, StrideEightMap
from igcv3det.structures import Categories, HeadOutputs

STRIDE8_SECTION = 3
"""Stage whose output is the backbone's map of stride 8."""


class Backbone(Protocol):
    """What SSDLite needs of a feature extractor."""

    feature_channels: tuple[int, ...]
    feature_reductions: tuple[int, ...]

    def forward_features(self, x: Tensor) -> list[Tensor]:
        """Feature maps of images [B, 3, H, W], finest first."""


class SSDLite(nn.Module):
    """A backbone, extra layers, prediction layers and the anchors of their outputs.

    Losses (`detection.losses`) and postprocessing (`detection.postprocess`) are functions of
    `HeadOutputs` and ``anchors``: one ``forward`` serves training, evaluation and export.

    Args:
        config: architecture, input size, preprocessing and postprocessing.
        categories: what the labels mean; None numbers them.

    Attributes:
        anchors: [A, 4] xyxy, pixels of the network input; a buffer that is not in state dicts.

    Raises:
        ValueError: another number of categories than ``config.num_classes``.

    Example:
        >>> import torch
        >>> detector = SSDLite(DetectorConfig(num_classes=3, image_size=64))
        >>> outputs = detector(torch.zeros(2, 3, 64, 64))
        >>> outputs.logits.shape, len(detector.anchors)
        (torch.Size([2, 144, 4]), 144)
    """

    def __init__(self, config: DetectorConfig, categories: Categories | None = None) -> None:
        super().__init__()
        categories = categories or Categories.numbered(config.num_classes)
        if len(categories) != config.num_classes:
            raise ValueError(
                f"num_classes is {config.num_classes}, but there are {len(categories)} categories: "
                f"{', '.join(categories.names[:5])}{', ...' if len(categories) > 5 else ''}"
            )
        self.config = config
        self.categories = categories
        self.backbone = build_backbone(config.backbone, padding=config.padding)
        backbone = cast(Backbone, self.backbone)
        self.extras = ExtraLayers(backbone.feature_channels[-1], config.head)
        set_padding(self.extras, config.padding)
        channels = [*backbone.feature_channels, *config.head.extra_channels]
        self.stride8: StrideEightMap | None = None
        if config.anchors.stride8_scale is not None:
            shallow, tap = _stride8_channels(self.backbone), backbone.feature_channels[0]
            self.stride8 = StrideEightMap(shallow, tap, config.head)
            channels = [config.head.stride8_channels, *channels]
        per_cell = anchors_per_cell(config.anchors, len(channels))
        self.head = SSDLiteHead(channels, per_cell, config.num_classes, config.head)
        anchors = generate_anchors(
            config.anchors, config.image_size, self.feature_sizes, config.padding
        )
        self.anchors: Tensor
        self.register_buffer("anchors", anchors, persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> SSDLite:
        """Leaves the anchors in float32 when the weights change their type.

        In bfloat16 a coordinate of 300 pixels has steps of 2.
        """
        anchors = self.anchors
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.anchors = anchors.to(self.anchors.device)
        return self

    @property
    def feature_sizes(self) -> list[tuple[int, int]]:
        """(height, width) of each map in cells; halving rounds up."""
        return self.feature_sizes_at(self.config.image_size)

    def feature_sizes_at(self, image_size: int) -> list[tuple[int, int]]:
        """`feature_sizes` for images of another side, pixels."""
        reductions = list(cast(Backbone, self.backbone).feature_reductions)
        for _ in self.config.head.extra_channels:
            reductions.append(reductions[-1] * 2)
        if self.stride8 is not None:
            reductions.insert(0, reductions[0] // 2)
        sides = [math.ceil(image_size / reduction) for reduction in reductions]
        return [(side, side) for side in sides]

    def forward(self, images: Tensor) -> HeadOutputs:
        """Raw head outputs for normalised images [B, 3, S, S], S being ``config.image_size``.

        Raises:
            ValueError: images of another size than the anchors were made for.
        """
        size = self.config.image_size
        if images.shape[-2] != size or images.shape[-1] != size:
            raise ValueError(
                f"this detector takes {size}x{size} images, got {tuple(images.shape[-2:])}"
            )
        if self.stride8 is None:
            features: list[Tensor] = self.backbone.forward_features(images)  # type: ignore[operator]
        else:
            features = self._features_with_stride8(self.stride8, images)
        features += self.extras(features[-1])
        outputs: HeadOutputs = self.head(features)
        return outputs

    def _features_with_stride8(self, stride8: StrideEightMap, images: Tensor) -> list[Tensor]:
        backbone, x = cast(SectionedBackbone, self.backbone), images
        shallow: Tensor | None = None
        maps: list[Tensor] = []
        for section in range(NUM_SECTIONS):
            x, tap = backbone.forward_section(section, x)
            if section == STRIDE8_SECTION:
                shallow = x
            if tap is not None:
                assert shallow is not None, "the sections are in order"
                maps += [stride8(shallow, tap), tap]
        return [*maps, x]


def _stride8_channels(backbone: nn.Module) -> int:
    """Channels of the output of the stage ``STRIDE8_SECTION``."""
    if isinstance(backbone, IGCV3):
        block = backbone.blocks[backbone.stage_starts[STRIDE8_SECTION] - 1]
        return cast(nn.Conv2d, block.get_submodule("project.0")).out_channels
    assert isinstance(backbone, MobileNetV2)
    return int(backbone.features[SECTION_STARTS[STRIDE8_SECTION + 1] - 1].out_channels)


def build_backbone(
    config: BackboneConfig,
    num_classes: int = 0,
    *,
    strides: tuple[int, ...] = IMAGENET_STRIDES,
    padding: Padding = "symmetric",
) -> nn.Module:
    """A backbone with random weights.

    Args:
        config: which network, and its hyper-parameters.
        num_classes: of the classifier; 0 leaves the classifier out.
        strides: of the stem and the first block of each of the seven stages.
        padding: of strided convolutions.

    Raises:
        ValueError: a field of IGCV3 is set for MobileNetV2.
    """
    if config.name == "igcv3":
        return IGCV3(config, num_classes, strides=strides, padding=padding)
    plain = BackboneConfig(
        name=config.name,
        width=config.width,
        dropout=config.dropout,
        zero_init=config.zero_init,
        norm_eps=config.norm_eps,
        norm_momentum=config.norm_momentum,
    )
    if plain != config:
        raise ValueError(
            "backbone.name mobilenetv2 takes width, dropout, zero_init, norm_eps and norm_momentum "
            f"only, got {config}"
        )
    return MobileNetV2(config, num_classes, strides=strides, padding=padding)


def build_detector(
    config: DetectorConfig | None = None, categories: Categories | None = None
) -> SSDLite:
    """A detector with random weights; without arguments IGCV3-D 1.0 at 320x320 for 80 classes."""
    return SSDLite(config or DetectorConfig(), categories)


def at_input_size(detector: SSDLite, size: int) -> SSDLite:
    """A copy with the same weights for images of another size, on the same device.

    Anchors keep the pixels that the weights know (``anchors.trained_size``): an object that has as
    many pixels as before is found as before. A smaller input is faster, and small objects are lost.

    Args:
        detector: left unchanged.
        size: side of the input, pixels.

    Example:
        >>> detector = at_input_size(SSDLite(DetectorConfig(num_classes=3, image_size=64)), 48)
        >>> detector.config.image_size, detector.config.anchors.trained_size
        (48, 64)
    """
    config = detector.config
    anchors = anchors_at(config, size)
    copied = SSDLite(replace(config, image_size=size, anchors=anchors), detector.categories)
    weights = {name: value.clone() for name, value in detector.state_dict().items()}
    copied.load_state_dict(weights, assign=True)  # keeps their types
    return copied.to(next(detector.parameters()).device).train(detector.training)


def anchors_at(config: DetectorConfig, size: int) -> AnchorConfig:
    """The anchors of a detector whose weights continue at another input size.

    Args:
        config: that the weights were trained with.
        size: of the input now, pixels.
    """
    trained = config.trained_size
    return replace(config.anchors, trained_size=None if trained == size else trained)
