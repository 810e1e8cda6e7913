"""Every tuning number of the package, once, with unit and source.

Frozen dataclasses of plain values: `tasks.detect.train` reads them from YAML, checkpoints store
them as dictionaries, and code takes them as arguments. Nothing but the standard library is
imported.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

Padding = Literal["symmetric", "same"]


def require(holds: bool, rule: str, value: object) -> None:
    """Raises ValueError with the rule and the value that breaks it."""
    if not holds:
        raise ValueError(f"{rule}, got {value!r}")


@dataclass(frozen=True)
class BackboneConfig:
    """The network that computes features."""

    name: Literal["igcv3", "mobilenetv2"] = "igcv3"
    """Family; MobileNetV2 takes width, dropout, zero_init and the two of the norm only."""
    variant: Literal["D", "W"] = "D"
    """IGCV3-D doubles MobileNetV2's depth, IGCV3-W its width (paper section 4.3)."""
    width: float = 1.0
    """Multiplier of the channel counts."""
    depth: float = 1.0
    """Multiplier of the blocks in the five middle stages, rounded, at least one each."""
    repeats: tuple[int, ...] | None = None
    """Blocks in each of the seven stages; None takes the variant's, times ``depth``."""
    groups: tuple[int, int] = (2, 2)
    """G1 of the expansion and G2 of the projection."""
    super_channels: int | None = None
    """Cs, pieces that the permutation moves as a whole; None: single channels, as released."""
    relu: Literal["depthwise", "expansion", "both", "none"] = "depthwise"
    """After which convolutions of a block ReLU6 sits; the released model: the depthwise."""
    p1: bool = True
    """The permutation before the projection; False breaks the complementary condition."""
    p2: bool = False
    """The permutation after the projection, drawn in the paper, absent from the released model."""
    dropout: float = 0.0
    """Before the classifier; the official network has none."""
    zero_init: bool = False
    """Blocks with a shortcut start as the identity (arXiv 1706.02677, section 5.1)."""
    norm_eps: float = 1e-5
    """Of the batch normalisation; a checkpoint is only right with the value that trained it."""
    norm_momentum: float = 0.1
    """Of the batch normalisation, in PyTorch's sense."""

    def __post_init__(self) -> None:
        require(self.width > 0, "backbone.width must be > 0", self.width)
        require(self.depth > 0, "backbone.depth must be > 0", self.depth)
        require(0 <= self.dropout < 1, "backbone.dropout must be in [0, 1)", self.dropout)
        require(self.norm_eps > 0, "backbone.norm_eps must be > 0", self.norm_eps)
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
    """Channels of the maps below the backbone's last, each half the size of the one before."""
    activation: Literal["softmax", "sigmoid"] = "softmax"
    """How logits become scores; training picks the loss that belongs to it."""
    norm_eps: float = 1e-3
    """As TensorFlow and torchvision have it for SSDLite."""
    norm_momentum: float = 0.03
    """As TensorFlow and torchvision have it for SSDLite."""
    init_std: float = 0.03
    """Standard deviation of the normal start of all weights here (torchvision's ssdlite.py)."""


@dataclass(frozen=True)
class AnchorConfig:
    """Default boxes on each feature map."""

    layout: Literal["torchvision", "tensorflow"] = "torchvision"
    """Order of the shapes in a cell, and whether widths are clipped (torchvision) or not."""
    min_scale: float = 0.2
    """Side of the smallest square as a share of the image."""
    max_scale: float = 0.95
    """Side of the square on the last map."""
    aspect_ratios: tuple[float, ...] = (2.0, 3.0)
    """Width to height; each stands for itself and its inverse."""
    reduce_lowest: bool = False
    """Only three shapes (scales 0.1, min, min; ratios 1, 2, 1/2) on the finest map (TensorFlow)."""

    def __post_init__(self) -> None:
        require(
            0 < self.min_scale < self.max_scale <= 1,
            "anchors need 0 < min_scale < max_scale <= 1",
            (self.min_scale, self.max_scale),
        )
        require(
            all(ratio > 1 for ratio in self.aspect_ratios),
            "anchors.aspect_ratios must be > 1 (inverses come by themselves)",
            self.aspect_ratios,
        )


@dataclass(frozen=True)
class PreprocessConfig:
    """From an RGB image to the network's input."""

    mean: tuple[float, float, float] = (127.5, 127.5, 127.5)
    """Taken from each channel, in 0..255."""
    std: tuple[float, float, float] = (127.5, 127.5, 127.5)
    """Divides each channel, in 0..255; the defaults give [-1, 1]."""
    resize: Literal["bilinear", "tensorflow"] = "bilinear"
    """OpenCV's (half-pixel centres, rounded to 8 bits) or TensorFlow 1's (corners, float)."""

    def __post_init__(self) -> None:
        require(min(self.std) > 0, "preprocess.std must be > 0", self.std)


@dataclass(frozen=True)
class PostprocessConfig:
    """From logits and offsets to detections."""

    score_threshold: float = 0.01
    """Weaker candidates are dropped before suppression."""
    candidates_per_class: int = 300
    """The best so many of each class and image enter suppression (torchvision's ssdlite.py)."""
    iou_threshold: float = 0.55
    """Of the class-wise suppression (torchvision's ssdlite.py)."""
    detections_per_image: int = 100
    """COCO counts no more."""

    def __post_init__(self) -> None:
        require(
            0 <= self.score_threshold < 1,
            "postprocess.score_threshold must be in [0, 1)",
            self.score_threshold,
        )
        require(
            0 < self.iou_threshold <= 1,
            "postprocess.iou_threshold must be in (0, 1]",
            self.iou_threshold,
        )
        require(
            self.candidates_per_class >= 1,
            "postprocess.candidates_per_class must be >= 1",
            self.candidates_per_class,
        )
        require(
            self.detections_per_image >= 1,
            "postprocess.detections_per_image must be >= 1",
            self.detections_per_image,
        )


@dataclass(frozen=True)
class DetectorConfig:
    """Everything that defines a detector but its weights."""

    num_classes: int = 80
    """K, without the background."""
    image_size: int = 320
    """Side of the square network input, pixels."""
    padding: Padding = "symmetric"
    """At stride 2: a pixel on each side, or TensorFlow's SAME (the odd pixel at the end)."""
    variances: tuple[float, float, float, float] = (0.1, 0.1, 0.2, 0.2)
    """Of the box coder; 0.1, 0.1, 0.2, 0.2 are TensorFlow's scales 10, 10, 5, 5."""
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    """Feature extractor."""
    head: HeadConfig = field(default_factory=HeadConfig)
    """Extra layers and prediction layers."""
    anchors: AnchorConfig = field(default_factory=AnchorConfig)
    """Default boxes."""
    preprocess: PreprocessConfig = field(default_factory=PreprocessConfig)
    """Image to input."""
    postprocess: PostprocessConfig = field(default_factory=PostprocessConfig)
    """Outputs to detections."""

    def __post_init__(self) -> None:
        require(self.num_classes >= 1, "num_classes must be >= 1", self.num_classes)
        require(self.image_size >= 32, "image_size must be >= 32 pixels", self.image_size)
        require(min(self.variances) > 0, "variances must be > 0", self.variances)


@dataclass(frozen=True)
class LossConfig:
    """MultiBox loss: what a match is and how classification is weighed."""

    classification: Literal["hard_negatives", "focal"] = "hard_negatives"
    """Cross-entropy on mined negatives, or focal loss on all (needs head.activation sigmoid)."""
    matching_iou: float = 0.5
    """An anchor that overlaps a box so much learns it (SSD section 2.2)."""
    crowd_ioa: float = 0.5
    """A background anchor with this share of its area in a crowd region is left out of the loss."""
    negatives_per_positive: float = 3.0
    """SSD section 2.2."""
    min_negatives: int = 3
    """Per image, so that images without objects teach too (TensorFlow's miner)."""
    box_weight: float = 1.0
    """Of the smooth L1 against the classification."""
    focal_alpha: float = 0.75
    """Weight of the positives (TensorFlow's ssdlite_mobilenet_v3 configuration)."""
    focal_gamma: float = 2.0
    """RetinaNet section 3.2."""
    label_smoothing: float = 0.0
    """Of the softmax cross-entropy."""

    def __post_init__(self) -> None:
        require(
            0 < self.matching_iou <= 1, "loss.matching_iou must be in (0, 1]", self.matching_iou
        )
        require(0 < self.crowd_ioa <= 1, "loss.crowd_ioa must be in (0, 1]", self.crowd_ioa)
        require(
            self.negatives_per_positive > 0,
            "loss.negatives_per_positive must be > 0",
            self.negatives_per_positive,
        )
        require(self.min_negatives >= 0, "loss.min_negatives must be >= 0", self.min_negatives)


@dataclass(frozen=True)
class OptimConfig:
    """Optimizer, schedule and weight averaging."""

    optimizer: Literal["sgd", "adamw", "muon"] = "sgd"
    """SGD with momentum as torchvision's SSDLite, AdamW as CVNets', or Muon for the backbone's 1x1
    convolutions and AdamW for all else."""
    lr: float = 0.15
    """Peak learning rate for a total batch of ``lr_batch_size`` images."""
    lr_batch_size: int | None = 192
    """The rate is scaled by total batch / this; None takes ``lr`` as it stands."""
    momentum: float = 0.9
    """Of SGD."""
    muon_lr: float = 0.02
    """Peak rate of Muon's parameters, taken as it stands; ``lr`` is that of the others."""
    muon_momentum: float = 0.95
    """Of Muon."""
    weight_decay: float = 4e-5
    """Of convolution weights; biases and batch-norm parameters decay only with ``decay_norms``."""
    decay_norms: bool = False
    """Decay biases and batch-norm parameters too, as TensorFlow and torchvision do."""
    warmup_steps: int = 1000
    """Linear rise to the peak rate."""
    warmup_start: float = 0.001
    """First step's share of the peak rate."""
    final_lr: float = 0.0
    """Share of the peak rate at the end of the cosine."""
    ema_decay: float | None = 0.9998
    """Of the averaged weights that are evaluated and saved; None keeps no average."""

    def __post_init__(self) -> None:
        require(self.lr > 0, "optim.lr must be > 0", self.lr)
        require(self.muon_lr > 0, "optim.muon_lr must be > 0", self.muon_lr)
        require(
            0 <= self.muon_momentum < 1, "optim.muon_momentum must be in [0, 1)", self.muon_momentum
        )
        require(self.warmup_steps >= 0, "optim.warmup_steps must be >= 0", self.warmup_steps)
        require(
            0 < self.warmup_start <= 1, "optim.warmup_start must be in (0, 1]", self.warmup_start
        )
        require(0 <= self.final_lr <= 1, "optim.final_lr must be in [0, 1]", self.final_lr)
        if self.ema_decay is not None:
            require(0 < self.ema_decay < 1, "optim.ema_decay must be in (0, 1)", self.ema_decay)


@dataclass(frozen=True)
class AugmentConfig:
    """Random changes of training images."""

    preset: Literal["none", "flip", "ssdlite", "ssd"] = "ssdlite"
    """none; flip; ssdlite: IoU crop and flip (torchvision); ssd: expand and photometric as well."""
    crop_min_scale: float = 0.3
    """Least side of an IoU crop as a share of the image's."""
    expand_max_scale: float = 4.0
    """Most that the canvas grows before the crop (preset ssd)."""
    photometric: float = 1.0
    """Strength of the colour changes (preset ssd); 1 is SSD's own."""

    def __post_init__(self) -> None:
        require(
            0 < self.crop_min_scale <= 1,
            "augment.crop_min_scale must be in (0, 1]",
            self.crop_min_scale,
        )
        require(
            self.expand_max_scale >= 1,
            "augment.expand_max_scale must be >= 1",
            self.expand_max_scale,
        )


Config = TypeVar("Config")


def config_from_dict(kind: type[Config], values: dict[str, Any], where: str = "") -> Config:
    """Builds a configuration from nested plain values, as JSON or YAML give them.

    Args:
        kind: a dataclass of this module.
        values: field names to values; fields left out keep their defaults.
        where: what the values are called in errors ("weights.safetensors: detector").

    Raises:
        ValueError: a field that ``kind`` does not have, a value outside its choices or of another
            type.
    """
    hints = typing.get_type_hints(kind)
    names = [f.name for f in dataclasses.fields(kind)]  # type: ignore[arg-type]
    unknown = sorted(set(values) - set(names))
    if unknown:
        raise ValueError(f"{where or kind.__name__} has no field {unknown}; it has {names}")
    prefix = f"{where}." if where else ""
    return kind(**{key: _as_type(hints[key], value, prefix + key) for key, value in values.items()})


def _as_type(hint: Any, value: Any, where: str) -> Any:  # noqa: ANN401
    """The value as the annotation wants it; one level of optional, tuples, choices and numbers."""
    origin, options = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        if value is None:
            return None
        (hint,) = (option for option in options if option is not type(None))
        return _as_type(hint, value, where)
    if origin is Literal:
        require(value in options, f"{where} must be one of {list(options)}", value)
        return value
    if origin is tuple:
        require(isinstance(value, (list, tuple)), f"{where} must be a list", value)
        if options[-1] is not Ellipsis:
            require(len(value) == len(options), f"{where} must have {len(options)} values", value)
        return tuple(_as_type(options[0], item, where) for item in value)
    if dataclasses.is_dataclass(hint):
        require(isinstance(value, dict), f"{where} must be a mapping", value)
        return config_from_dict(typing.cast(type, hint), value, where)
    if hint is float:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        require(number, f"{where} must be a number", value)
        return float(value)
    require(type(value) is hint, f"{where} must be of type {hint.__name__}", value)
    return value
