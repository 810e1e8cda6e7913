"""Everything that defines a detector but its weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from igcv3det.config.values import require, require_ranges

Padding = Literal["symmetric", "same"]


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
    groups: tuple[int, int] = (2, 2)
    """G1 of the expansion and G2 of the projection."""
    super_channels: int | None = None
    """Cs, pieces that the permutation moves as a whole; null: single channels, as released."""
    relu: Literal["depthwise", "expansion", "both", "none"] = "depthwise"
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

    def __post_init__(self) -> None:
        require_ranges(
            self,
            "backbone",
            width="(0, inf)",
            depth="(0, inf)",
            groups="[1, inf)",
            super_channels="[1, inf)",
            dropout="[0, 1)",
            norm_eps="(0, 1)",
            norm_momentum="(0, 1]",
        )
        if self.repeats is not None:
            require(
                len(self.repeats) == 7 and min(self.repeats) >= 1,
                "backbone.repeats must be seven counts >= 1",
                self.repeats,
            )


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

    def __post_init__(self) -> None:
        require_ranges(
            self,
            "head",
            extra_channels="[1, inf)",
            norm_eps="(0, 1)",
            norm_momentum="(0, 1]",
            init_std="(0, inf)",
        )


@dataclass(frozen=True)
class AnchorConfig:
    """Anchors on each feature map."""

    layout: Literal["torchvision", "tensorflow"] = "torchvision"
    """Order of the anchors in a cell, and whether widths are clipped (torchvision) or not."""
    min_scale: float = 0.2
    """Side of the smallest square as a share of the image."""
    max_scale: float = 0.95
    """Side of the square on the last map."""
    aspect_ratios: tuple[float, ...] = (2.0, 3.0)
    """Width to height; each adds an anchor of that ratio and one of its inverse."""
    reduce_lowest: bool = False
    """Three anchors (scales 0.1, min, min; ratios 1, 2, 1/2) on the finest map (TensorFlow)."""

    def __post_init__(self) -> None:
        require(
            0 < self.min_scale < self.max_scale <= 1,
            "anchors need 0 < min_scale < max_scale <= 1",
            (self.min_scale, self.max_scale),
        )
        require(
            all(ratio > 1 for ratio in self.aspect_ratios),
            "anchors.aspect_ratios must be > 1 (their inverses are included)",
            self.aspect_ratios,
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
        require_ranges(self, "preprocess", mean="[0, 255]", std="(0, inf)")


@dataclass(frozen=True)
class PostprocessConfig:
    """From logits and offsets to detections."""

    score_threshold: float = 0.01
    """Detections of a lower score are dropped before NMS."""
    candidates_per_class: int = 300
    """Detections of each class and image that enter NMS, highest scores first (torchvision)."""
    iou_threshold: float = 0.55
    """IoU threshold of the class-wise NMS (torchvision's ssdlite.py)."""
    detections_per_image: int = 100
    """Most detections of an image; COCO's metrics use 100."""

    def __post_init__(self) -> None:
        require_ranges(
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
        require_ranges(self, "", num_classes="[1, inf)", variances="(0, inf)")
        require(self.image_size >= 32, "image_size must be >= 32 pixels", self.image_size)
