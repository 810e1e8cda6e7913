"""Builds the network of a classifier configuration."""

from __future__ import annotations

from torch import nn

from igcv3det.config import BackboneConfig
from igcv3det.detector import build_backbone
from igcv3det.models.igcv2 import IGCV2
from igcv3det.tasks.classify.config import ClassifierConfig


def build_network(config: ClassifierConfig) -> nn.Module:
    """Builds the network of a configuration, with random weights.

    The network maps normalised images [B, 3, H, W] to logits [B, num_classes].

    Raises:
        ValueError: fields contradict one another or are out of the network's range.

    Example:
        >>> network = build_network(ClassifierConfig(num_classes=100))
        >>> sum(parameter.numel() for parameter in network.parameters())
        2338788
    """
    if config.igcv2 is None:
        return build_backbone(config.backbone, config.num_classes, strides=config.strides)
    if config.backbone != BackboneConfig():
        raise ValueError("classifier.igcv2 replaces classifier.backbone: set one of them")
    return IGCV2(config.igcv2, config.num_classes)
