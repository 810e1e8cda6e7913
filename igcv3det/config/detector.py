"""Everything that defines a detector but its weights."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Literal

from igcv3det.config.anchors import AnchorConfig
from igcv3det.config.values import (
    CHANNEL_COUNTS,
    IMAGE_SIDES,
    MULTIPLIERS,
    check_fields,
    require,
)

Padding = Literal["symmetric", "same"]
Relu = Literal["depthwise", "expansion", "both", "none"]
Groups = tuple[int, int]

STAGES = 7
"""Stages of the backbones, numbered from 1."""


@dataclass(frozen=True)
class BlockConfig:
    """One block of a network whose blocks differ (`BackboneConfig.blocks`)."""

    stage: int
    """Stage, 1 to 7; the first block of a stage has the stage's stride."""
    channels: int
    """Output channels."""
    hidden: int | None = None
    """Channels between the two 1x1 convolutions; null: no expansion, as MobileNetV2's first."""
    groups: Groups = (1, 1)
    """G1 of the expansion and G2 of the projection."""
    super_channels: int | None = None
    """Cs, groups of adjacent channels (super-channels) that the permutation moves as a whole; null:
    single channels."""
    relu: Relu = "depthwise"
    """Convolutions of the block that a ReLU6 follows; MobileNetV2's: both."""
    shortcut: bool = False
    """The input is added to the output."""

    def __post_init__(self) -> None:
        check_fields(
            self,
            "blocks",
            stage=f"[1, {STAGES}]",
            channels=CHANNEL_COUNTS,
            hidden=CHANNEL_COUNTS,
            groups="[1, inf)",
            super_channels="[1, inf)",
        )
        require(
            self.hidden is not None or self.groups == (1, 1),
            "blocks.groups of a block without expansion must be (1, 1)",
            self.groups,
        )


@dataclass(frozen=True)
class BackboneConfig:
    """The network that computes the feature maps."""

    name: Literal["igcv3", "mobilenetv2"] = "igcv3"
    """Family; MobileNetV2 has width, dropout, zero_init, norm_eps and norm_momentum only."""
    variant: Literal["D", "W"] = "D"
    """IGCV3-D doubles MobileNetV2's depth, IGCV3-W its width (paper section 4.3)."""
    width: float = 1.0
    """Multiplier of the channel counts."""
    depth: float = 1.0
    """Multiplier of the blocks in the five middle stages, rounded, at least one each."""
    repeats: tuple[int, ...] | None = None
    """Blocks in each of the seven stages; null: the variant's, times depth."""
    groups: Groups = (2, 2)
    """G1 of the expansion and G2 of the projection."""
    super_channels: int | None = None
    """Cs, groups of adjacent channels (super-channels) that the permutation moves as a whole; null:
    single channels, as released."""
    relu: Relu = "depthwise"
    """Convolutions of a block that a ReLU6 follows; the released model: the depthwise."""
    p1: bool = True
    """The permutation before the projection; false breaks the complementary condition."""
    p2: bool = False
    """The permutation after the projection, drawn in the paper, absent from the released model."""
    dropout: float = 0.0
    """Dropout before the classifier; the official network has none."""
    zero_init: bool = False
    """Blocks with a shortcut start as the identity (arXiv 1706.02677, section 5.1)."""
    norm_eps: float = 1e-5
    """Epsilon of batch normalisation; a checkpoint needs the value that it was trained with."""
    norm_momentum: float = 0.1
    """Momentum of batch normalisation's running statistics, as PyTorch defines it."""
    blocks: tuple[BlockConfig, ...] | None = None
    """All blocks in order, which may differ, in place of variant, width, depth, repeats, groups,
    super_channels and relu; null: those of the variant."""
    stem_channels: int | None = None
    """Channels of the first convolution; null: 32 times width."""
    last_channels: int | None = None
    """Channels of the last 1x1 convolution; null: 1280, times width if that is above 1."""
    last_groups: int = 1
    """Groups of the last 1x1 convolution."""

    def __post_init__(self) -> None:
        check_fields(
            self,
            "backbone",
            stem_channels=CHANNEL_COUNTS,
            last_channels=CHANNEL_COUNTS,
            last_groups="[1, inf)",
            width=MULTIPLIERS,
            depth=MULTIPLIERS,
            repeats="[1, 256]",
            groups="[1, inf)",
            super_channels="[1, inf)",
            dropout="[0, 1)",
            norm_eps="(0, 1)",
            norm_momentum="(0, 1]",
        )
        if self.repeats is not None:
            require(
                len(self.repeats) == STAGES,
                f"backbone.repeats must have {STAGES} counts",
                self.repeats,
            )
        if self.blocks is not None:
            self._check_blocks(self.blocks)

    def _check_blocks(self, blocks: tuple[BlockConfig, ...]) -> None:
        stages = [block.stage for block in blocks]
        require(
            stages == sorted(stages) and set(stages) == set(range(1, STAGES + 1)),
            f"backbone.blocks must be in the order of their stages, with all of 1..{STAGES}",
            stages,
        )
        for field_ in dataclasses.fields(self):
            if field_.name in _REPLACED_BY_BLOCKS:
                require(
                    getattr(self, field_.name) == field_.default,
                    f"backbone.{field_.name} has no effect beside backbone.blocks: leave it out",
                    getattr(self, field_.name),
                )


_REPLACED_BY_BLOCKS = ("variant", "width", "depth", "repeats", "groups", "super_channels", "relu")


@dataclass(frozen=True)
class HeadConfig:
    """Extra layers and prediction layers."""

    extra_channels: tuple[int, ...] = (512, 256, 256, 128)
    """Channels of the maps after the backbone's last, each half the size of the previous one."""
    activation: Literal["softmax", "sigmoid"] = "softmax"
    """Activation that turns logits into scores; the training loss follows from it."""
    norm_eps: float = 1e-3
    """Epsilon of batch normalisation; TensorFlow's and torchvision's for SSDLite."""
    norm_momentum: float = 0.03
    """Momentum of batch normalisation; TensorFlow's and torchvision's for SSDLite."""
    init_std: float = 0.03
    """Standard deviation of the normal initialisation of these layers (torchvision)."""
    extra_hidden: tuple[int, ...] | None = None
    """Channels between the 1x1 convolutions of each extra layer; null: half of extra_channels,
    at least one."""
    extra_groups: tuple[Groups, ...] | None = None
    """(G1, G2) of the 1x1 convolutions of each extra layer; null: dense ones."""
    class_ranks: tuple[int | None, ...] | None = None
    """For each map, the channels between the two 1x1 convolutions into which that of its
    classification layer is split, for fewer parameters; null: not split."""
    class_groups: tuple[Groups, ...] | None = None
    """(G1, G2) of those two 1x1 convolutions, for each map; null: dense ones."""
    stride8_channels: int = 96
    """Channels of the map of stride 8, where anchors.stride8_scale adds one."""

    def __post_init__(self) -> None:
        check_fields(
            self,
            "head",
            extra_channels=CHANNEL_COUNTS,
            extra_hidden=CHANNEL_COUNTS,
            extra_groups="[1, inf)",
            class_ranks=CHANNEL_COUNTS,
            class_groups="[1, inf)",
            stride8_channels=CHANNEL_COUNTS,
            norm_eps="(0, 1)",
            norm_momentum="(0, 1]",
            init_std="(0, inf)",
        )
        self._check_lengths()
        pairs = self.class_groups or ()
        ranks = self.class_ranks or (None,) * len(pairs)
        require(
            all(ranks[level] is not None for level, pair in enumerate(pairs) if pair != (1, 1)),
            "head.class_groups needs head.class_ranks: a single 1x1 stays dense",
            self.class_groups,
        )

    @property
    def takes_stride8(self) -> bool:
        """Whether a map of stride 8 can be added: not where classification layers are split."""
        return self.class_ranks is None and self.class_groups is None

    def _check_lengths(self) -> None:
        extras = len(self.extra_channels)
        maps = extras + 2  # the backbone's taps come first
        lengths = {
            "extra_hidden": (extras, "extra layer"),
            "extra_groups": (extras, "extra layer"),
            "class_ranks": (maps, "map"),
            "class_groups": (maps, "map"),
        }
        for name, (length, what) in lengths.items():
            values = getattr(self, name)
            require(
                values is None or len(values) == length,
                f"head.{name} needs one value for each {what}",
                values,
            )


@dataclass(frozen=True)
class PreprocessConfig:
    """From an RGB image to the network's input."""

    mean: tuple[float, float, float] = (127.5, 127.5, 127.5)
    """Subtracted from each channel, in 0..255."""
    std: tuple[float, float, float] = (127.5, 127.5, 127.5)
    """Divisor of each channel, in 0..255; the defaults give [-1, 1]."""
    resize: Literal["bilinear", "tensorflow"] = "bilinear"
    """OpenCV's (half-pixel centres, rounded to 8 bits) or TensorFlow 1's (corners, float)."""

    def __post_init__(self) -> None:
        check_fields(self, "preprocess", mean="[0, 255]", std="(0, inf)")


@dataclass(frozen=True)
class PostprocessConfig:
    """From logits and offsets to detections."""

    score_threshold: float = 0.01
    """Only detections of a higher score enter NMS."""
    candidates_per_class: int = 300
    """Detections of each class and image that enter NMS, highest scores first (torchvision)."""
    iou_threshold: float = 0.55
    """IoU threshold of the class-wise NMS (torchvision's ssdlite.py)."""
    detections_per_image: int = 100
    """Most detections of an image; COCO's metrics use 100."""

    def __post_init__(self) -> None:
        check_fields(
            self,
            "postprocess",
            score_threshold="[0, 1)",
            candidates_per_class="[1, inf)",
            iou_threshold="(0, 1]",
            detections_per_image="[1, inf)",
        )


@dataclass(frozen=True)
class DetectorConfig:
    """Everything that defines a detector but its weights."""

    num_classes: int = 80
    """Number of classes K, without the background."""
    image_size: int = 320
    """Side of the square network input, pixels."""
    padding: Padding = "symmetric"
    """Padding at stride 2: a pixel on each side, or TensorFlow's SAME (odd pixel at the end)."""
    variances: tuple[float, float, float, float] = (0.1, 0.1, 0.2, 0.2)
    """Variances of the box coder; 0.1, 0.1, 0.2, 0.2 are TensorFlow's scales 10, 10, 5, 5."""
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    """Feature extractor."""
    head: HeadConfig = field(default_factory=HeadConfig)
    """Extra layers and prediction layers."""
    anchors: AnchorConfig = field(default_factory=AnchorConfig)
    """Anchors."""
    preprocess: PreprocessConfig = field(default_factory=PreprocessConfig)
    """Image to input."""
    postprocess: PostprocessConfig = field(default_factory=PostprocessConfig)
    """Outputs to detections."""

    def __post_init__(self) -> None:
        check_fields(self, "", num_classes="[1, inf)", image_size=IMAGE_SIDES, variances="(0, inf)")
        require(
            self.anchors.stride8_scale is None or self.head.takes_stride8,
            "a detector with split class layers (head.class_ranks, class_groups) has no map of "
            "stride 8: anchors.stride8_scale must be null",
            self.anchors.stride8_scale,
        )

    @property
    def trained_size(self) -> int:
        """Side of the input that the weights were trained at, and the anchors' shares are of."""
        return self.anchors.trained_size or self.image_size
