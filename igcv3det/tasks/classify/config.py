"""The numbers of classification, with unit and source; `igcv3det.config` has what is shared."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from igcv3det.config import BackboneConfig, require
from igcv3det.models.igcv2 import IGCV2Config
from igcv3det.models.igcv3 import CIFAR_STRIDES

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class ClassifierConfig:
    """Everything that defines a classifier but its weights."""

    num_classes: int = 10
    """Classes that the data has."""
    image_size: int = 32
    """Side of the square network input, pixels."""
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    """IGCV3 or MobileNetV2."""
    igcv2: IGCV2Config | None = None
    """IGCV2, in the place of ``backbone``."""
    strides: tuple[int, ...] = CIFAR_STRIDES
    """Of the backbone's stem and of the first block of each of its seven stages."""
    mean: Triple = (125.3, 123.0, 113.9)
    """Taken from each channel, in 0..255; CIFAR-10's own."""
    std: Triple = (63.0, 62.1, 66.7)
    """Divides each channel, in 0..255; CIFAR-10's own."""

    def __post_init__(self) -> None:
        require(self.num_classes >= 2, "num_classes must be >= 2", self.num_classes)
        require(self.image_size >= 8, "image_size must be >= 8 pixels", self.image_size)
        require(min(self.std) > 0, "std must be > 0", self.std)
        require(
            len(self.strides) == 8 and set(self.strides) <= {1, 2},
            "strides must be eight, each 1 or 2",
            self.strides,
        )


@dataclass(frozen=True)
class ScheduleConfig:
    """The learning rate's curve after the warm-up that ``optim`` describes."""

    curve: Literal["cosine", "steps", "exponential"] = "cosine"
    """Half a cosine down (with a long warm-up: one cycle), steps, or a factor each epoch."""
    milestones: tuple[int, ...] = ()
    """Of steps: epochs before which the rate drops."""
    factor: float = 0.1
    """At each step, or of each epoch."""

    def __post_init__(self) -> None:
        require(0 < self.factor <= 1, "schedule.factor must be in (0, 1]", self.factor)
        require(
            list(self.milestones) == sorted(set(self.milestones))
            and min(self.milestones, default=1) > 0,
            "schedule.milestones must be ascending epochs > 0",
            self.milestones,
        )
        require(
            (self.curve == "steps") == bool(self.milestones),
            "schedule.milestones go with curve steps, and only with it",
            (self.curve, self.milestones),
        )


@dataclass(frozen=True)
class ImageAugmentConfig:
    """Random changes of training images."""

    flip: bool = True
    """Left and right exchanged, every second time."""
    pad: int = 4
    """Of small images: black pixels on every side before a random crop of the old size."""
    crop_scale: tuple[float, float] = (0.08, 1.0)
    """Of images from files: least and greatest share of the area that a crop takes."""
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    """Of images from files: least and greatest width to height of a crop."""

    def __post_init__(self) -> None:
        require(self.pad >= 0, "augment.pad must be >= 0 pixels", self.pad)
        low, high = self.crop_scale
        require(0 < low <= high <= 1, "augment.crop_scale needs 0 < a <= b <= 1", self.crop_scale)
        low, high = self.crop_ratio
        require(0 < low <= high, "augment.crop_ratio needs 0 < a <= b", self.crop_ratio)
