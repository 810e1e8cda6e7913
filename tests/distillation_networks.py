"""Teachers and students that share their taps."""

import torch
from torch import nn

from igcv3det import build_detector
from igcv3det.config import BackboneConfig, DetectorConfig, HeadConfig

HEAD = HeadConfig(extra_channels=(16, 16), activation="sigmoid")
SMALL = {"width": 0.25, "repeats": (1, 2, 2, 2, 2, 2, 1)}


def detector_config(backbone, size=64):
    return DetectorConfig(
        num_classes=3, image_size=size, padding="same", backbone=backbone, head=HEAD
    )


def small_config(**options):
    """A narrow IGCV3; as a teacher too."""
    return detector_config(BackboneConfig(**{**SMALL, **options}))


def built(config, seed):
    """With norms as training leaves them: all channels different."""
    torch.manual_seed(seed)
    detector = build_detector(config)
    for norm in detector.modules():
        if isinstance(norm, nn.BatchNorm2d):
            for tensor in (norm.weight.data, norm.running_var):
                tensor.copy_(0.5 + torch.rand(tensor.shape))
            for tensor in (norm.bias.data, norm.running_mean):
                tensor.copy_(torch.randn(tensor.shape) / 4)
    return detector.eval()
