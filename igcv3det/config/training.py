"""The numbers of detection training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from igcv3det.config.values import check_fields


@dataclass(frozen=True)
class LossConfig:
    """MultiBox loss: matching, and the weights of its parts."""

    classification: Literal["hard_negatives", "focal"] = "hard_negatives"
    """Cross-entropy on mined negatives, or focal loss on all (needs head.activation sigmoid)."""
    matching_iou: float = 0.5
    """An anchor of at least this IoU with a box is matched to it (SSD section 2.2)."""
    crowd_ioa: float = 0.5
    """A background anchor with more than this share of its area in a crowd region is ignored."""
    negatives_per_positive: float = 3.0
    """Ratio of hard negatives to positives (SSD section 2.2)."""
    min_negatives: int = 3
    """Fewest hard negatives of an image, so that empty images count (TensorFlow's miner)."""
    box_weight: float = 1.0
    """Weight of the smooth L1 loss relative to the classification loss."""
    focal_alpha: float = 0.75
    """Weight of the positives (TensorFlow's ssdlite_mobilenet_v3 configuration)."""
    focal_gamma: float = 2.0
    """Focusing parameter (RetinaNet section 3.2)."""
    label_smoothing: float = 0.0
    """Label smoothing of the softmax cross-entropy."""

    def __post_init__(self) -> None:
        check_fields(
            self,
            "loss",
            matching_iou="(0, 1]",
            crowd_ioa="(0, 1]",
            negatives_per_positive="(0, inf)",
            min_negatives="[0, inf)",
            box_weight="[0, inf)",
            focal_alpha="[0, 1]",
            focal_gamma="[0, inf)",
            label_smoothing="[0, 1)",
        )


@dataclass(frozen=True)
class OptimConfig:
    """Optimizer, schedule and weight averaging."""

    optimizer: Literal["sgd", "adamw", "muon"] = "sgd"
    """Optimizer: SGD with momentum as torchvision's SSDLite, AdamW as CVNets', or Muon for the
    backbone's 1x1 convolutions and AdamW for all other parameters."""
    lr: float = 0.15
    """Peak learning rate for a total batch of lr_batch_size images."""
    lr_batch_size: int | None = 192
    """The learning rate is scaled by total batch / lr_batch_size; null: lr is not scaled."""
    momentum: float = 0.9
    """SGD momentum."""
    muon_lr: float = 0.02
    """Peak learning rate of Muon's parameters, not scaled; lr is that of the others."""
    muon_momentum: float = 0.95
    """Muon momentum."""
    weight_decay: float = 4e-5
    """Weight decay of convolutions; for biases and batch-norm parameters see decay_norms."""
    decay_norms: bool = False
    """Weight decay of biases and batch-norm parameters too, as TensorFlow and torchvision do."""
    warmup_steps: int = 1000
    """Steps of the linear warm-up to the peak learning rate."""
    warmup_start: float = 0.001
    """Learning rate of the first step as a share of the peak."""
    final_lr: float = 0.0
    """Learning rate at the end of the cosine as a share of the peak."""
    ema_decay: float | None = 0.9998
    """Decay of the exponential moving average of the weights; null: no average."""

    def __post_init__(self) -> None:
        check_fields(
            self,
            "optim",
            lr="(0, inf)",
            lr_batch_size="[1, inf)",
            momentum="[0, 1)",
            muon_lr="(0, inf)",
            muon_momentum="[0, 1)",
            weight_decay="[0, inf)",
            warmup_steps="[0, inf)",
            warmup_start="(0, 1]",
            final_lr="[0, 1]",
            ema_decay="(0, 1)",
        )


@dataclass(frozen=True)
class AugmentConfig:
    """Random changes of training images."""

    preset: Literal["none", "flip", "ssdlite", "ssd"] = "ssdlite"
    """none; flip; ssdlite: IoU crop and flip (torchvision); ssd: expand and photometric as well."""
    crop_min_scale: float = 0.3
    """Smallest side of an IoU crop as a share of the image's."""
    expand_max_scale: float = 4.0
    """Largest side of the expanded canvas as a multiple of the image's (preset ssd)."""
    photometric: float = 1.0
    """Strength of the photometric changes (preset ssd); 1 is SSD's own."""

    def __post_init__(self) -> None:
        check_fields(
            self,
            "augment",
            crop_min_scale="(0, 1]",
            expand_max_scale="[1, inf)",
            photometric="[0, inf)",
        )
