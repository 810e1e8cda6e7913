"""Configuration of classification; `igcv3det.config` has what other tasks use too."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from igcv3det.config import BackboneConfig, check_fields, require
from igcv3det.models.igcv2 import IGCV2Config
from igcv3det.models.igcv3 import CIFAR_STRIDES

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class ClassifierConfig:
    """Network and input of a classifier."""

    num_classes: int = 10
    """Number of classes."""
    image_size: int = 32
    """Side of the square network input, pixels."""
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    """IGCV3 or MobileNetV2, unless ``igcv2`` is set."""
    igcv2: IGCV2Config | None = None
    """IGCV2 instead of ``backbone``."""
    strides: tuple[int, ...] = CIFAR_STRIDES
    """Strides of the stem and of the first block of each of the seven stages."""
    mean: Triple = (125.3, 123.0, 113.9)
    """Mean of each channel, in 0..255; the default is CIFAR-10's."""
    std: Triple = (63.0, 62.1, 66.7)
    """Standard deviation of each channel, in 0..255; the default is CIFAR-10's."""

    def __post_init__(self) -> None:
        check_fields(
            self, "", num_classes="[2, inf)", image_size="[8, inf)", std="(0, inf)", mean="[0, 255]"
        )
        require(
            len(self.strides) == 8 and set(self.strides) <= {1, 2},
            "strides must be eight numbers, each 1 or 2",
            self.strides,
        )


@dataclass(frozen=True)
class ScheduleConfig:
    """Learning-rate schedule after the warm-up, which ``optim`` describes."""

    curve: Literal["cosine", "steps", "exponential"] = "cosine"
    """Cosine decay, decay at milestones, or decay by ``factor`` every epoch."""
    milestones: tuple[int, ...] = ()
    """Epochs at whose start the learning rate is multiplied by ``factor``; for ``steps``."""
    factor: float = 0.1
    """Factor of each decay; for ``steps`` and ``exponential``."""

    def __post_init__(self) -> None:
        check_fields(self, "schedule", factor="(0, 1]")
        require(
            list(self.milestones) == sorted(set(self.milestones))
            and min(self.milestones, default=1) > 0,
            "schedule.milestones must be ascending epochs > 0",
            self.milestones,
        )
        require(
            (self.curve == "steps") == bool(self.milestones),
            "schedule.milestones are for curve steps, which needs them",
            (self.curve, self.milestones),
        )


@dataclass(frozen=True)
class ImageAugmentConfig:
    """Augmentation of training images."""

    flip: bool = True
    """Flip horizontally with probability 0.5."""
    pad: int = 4
    """Images in memory: black pixels added on every side before a random crop of the old size."""
    crop_scale: tuple[float, float] = (0.08, 1.0)
    """Images decoded from files: range of the crop's area, as a share of the image's."""
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    """Images decoded from files: range of the crop's aspect ratio, width / height."""

    def __post_init__(self) -> None:
        check_fields(self, "augment", pad="[0, inf)")
        low, high = self.crop_scale
        require(0 < low <= high <= 1, "augment.crop_scale needs 0 < a <= b <= 1", self.crop_scale)
        low, high = self.crop_ratio
        require(0 < low <= high, "augment.crop_ratio needs 0 < a <= b", self.crop_ratio)
