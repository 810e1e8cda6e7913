"""Configuration of segmentation; `igcv3det.config` has what other tasks use too."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from igcv3det.config import BackboneConfig, Padding, check_fields, require
from igcv3det.config.values import CHANNEL_COUNTS, IMAGE_SIDES
from igcv3det.models.lraspp import CHANNELS

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class SegmenterConfig:
    """Network and input of a segmenter."""

    num_classes: int = 2
    """Number of classes K, those of the masks: labels are 0 to K - 1."""
    image_size: tuple[int, int] = (512, 512)
    """Height and width of the network input, pixels; images are resized to it."""
    output_stride: Literal[16, 32] = 16
    """Pixels of the image per cell of the coarse feature map; 16 dilates the last two stages."""
    head: Literal["lraspp", "deeplab"] = "lraspp"
    """Lite R-ASPP, or DeepLabV3's pyramid of dilations with depthwise convolutions."""
    head_channels: int = CHANNELS
    """Channels of Lite R-ASPP's convolution, or of each of DeepLabV3's branches."""
    padding: Padding = "symmetric"
    """Padding at stride 2: a pixel on each side, or TensorFlow's SAME (odd pixel at the end)."""
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    """Feature extractor."""
    mean: Triple = (127.5, 127.5, 127.5)
    """Subtracted from each channel, in 0..255."""
    std: Triple = (127.5, 127.5, 127.5)
    """Divisor of each channel, in 0..255."""

    def __post_init__(self) -> None:
        check_fields(
            self,
            "segmenter",
            num_classes="[2, 255]",
            image_size=IMAGE_SIDES,
            head_channels=CHANNEL_COUNTS,
            mean="[0, 255]",
            std="(0, inf)",
        )


@dataclass(frozen=True)
class PixelLossConfig:
    """Cross-entropy of every pixel."""

    balance: float = 0.0
    """A class weighs (median frequency / its frequency in the training masks) to this power: 0
    weighs all alike, 1 is median frequency balancing (arXiv 1411.4734, section 6.3.2)."""
    max_weight: float = 5.0
    """Largest weight that ``balance`` gives."""
    class_weights: tuple[float, ...] | None = None
    """Weights of the classes, in place of ``balance``."""
    label_smoothing: float = 0.0
    """Share of the target probability that is spread over all classes."""

    def __post_init__(self) -> None:
        check_fields(
            self,
            "loss",
            balance="[0, inf)",
            max_weight="[1, inf)",
            class_weights="(0, inf)",
            label_smoothing="[0, 1)",
        )


@dataclass(frozen=True)
class DecayConfig:
    """Learning rate after the warm-up, which ``optim`` describes."""

    curve: Literal["cosine", "poly"] = "poly"
    """Half a cosine, or a power of the remaining share of the run (DeepLab)."""
    power: float = 0.9
    """Exponent of ``poly``."""

    def __post_init__(self) -> None:
        check_fields(self, "schedule", power="(0, inf)")


@dataclass(frozen=True)
class MaskAugmentConfig:
    """Random changes of training images and their masks."""

    scale: tuple[float, float] = (0.5, 2.0)
    """Range of the factor by which an image is enlarged or shrunk before a crop of the input's
    size; (1, 1) leaves both out."""
    flip: bool = True
    """Flip horizontally with probability 0.5."""
    colour: float = 0.3
    """Largest relative change of brightness, contrast and saturation; 0 leaves it out."""

    def __post_init__(self) -> None:
        check_fields(self, "augment", colour="[0, 1)")
        low, high = self.scale
        require(0 < low <= high, "augment.scale needs 0 < a <= b", self.scale)
