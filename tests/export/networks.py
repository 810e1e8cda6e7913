"""Detectors small enough to export in seconds, with scores as varied as a trained one's."""

import numpy as np
import pytest
import torch
from torch import nn

from igcv3det.config import (
    AnchorConfig,
    BackboneConfig,
    BlockConfig,
    DetectorConfig,
    HeadConfig,
    PostprocessConfig,
    PreprocessConfig,
)
from igcv3det.detector import build_detector
from igcv3det.export_formats import FORMATS
from igcv3det.io.images import write_image
from igcv3det.structures import Categories

CATEGORIES = Categories((2, 5, 9), ("cat", "dog", "zebra"))
# Odd sides, so that SAME and symmetric padding differ from each other at both kinds of side
TENSORFLOW = DetectorConfig(
    num_classes=3,
    image_size=75,
    padding="same",
    backbone=BackboneConfig(name="mobilenetv2", width=0.1),
    head=HeadConfig(extra_channels=(16, 8), activation="sigmoid"),
    anchors=AnchorConfig(layout="tensorflow", reduce_lowest=True),
    preprocess=PreprocessConfig(resize="tensorflow"),
)
IGCV3 = DetectorConfig(
    num_classes=3,
    image_size=64,
    backbone=BackboneConfig(width=0.25, repeats=(1, 2, 1, 1, 1, 1, 1)),
    head=HeadConfig(extra_channels=(16,)),
    postprocess=PostprocessConfig(candidates_per_class=20),
)

CONFIGS = {"tensorflow": TENSORFLOW, "igcv3": IGCV3}

# What configurations, searches and fine-tuning make beside the usual detectors
ODD = {
    "one class, 236": DetectorConfig(
        num_classes=1,
        image_size=236,
        backbone=BackboneConfig(name="mobilenetv2", width=0.1),
        head=HeadConfig(extra_channels=(16, 8, 8)),
        anchors=AnchorConfig(
            shapes=(((0.1, 0.2),), ((0.3, 0.3), (0.2, 0.5)), *[((0.9, 0.9),)] * 3)
        ),
    ),
    "IGCV3-W, 320": DetectorConfig(
        num_classes=7,
        image_size=320,
        backbone=BackboneConfig(
            variant="W", width=0.25, groups=(4, 2), relu="both", super_channels=8, repeats=(1,) * 7
        ),
        head=HeadConfig(extra_channels=(16,), activation="sigmoid"),
    ),
    "permuted twice, stride 8": DetectorConfig(
        num_classes=4,
        image_size=100,
        padding="same",
        backbone=BackboneConfig(width=0.25, p2=True, repeats=(1, 1, 2, 1, 1, 1, 1)),
        head=HeadConfig(extra_channels=(16, 16), stride8_channels=24),
        anchors=AnchorConfig(stride8_scale=0.1, aspect_ratios=(2.0,)),
    ),
    "searched, grouped heads": DetectorConfig(
        num_classes=2,
        image_size=97,
        backbone=BackboneConfig(
            blocks=(
                BlockConfig(1, 8, relu="both"),
                BlockConfig(2, 12, 20, (1, 2)),
                BlockConfig(2, 12, 24, (2, 2), 4, "both", shortcut=True),
                BlockConfig(3, 16, 12, (2, 1), relu="expansion"),
                BlockConfig(4, 32, 48, (4, 4)),
                BlockConfig(4, 32, 8, (2, 4), shortcut=True),
                BlockConfig(5, 24, 56, relu="none"),
                BlockConfig(6, 40, 60, (2, 2)),
                BlockConfig(7, 48, 80, (4, 2), relu="both"),
            ),
            stem_channels=8,
            last_channels=64,
            last_groups=2,
        ),
        head=HeadConfig(
            extra_channels=(32, 16),
            extra_hidden=(16, 8),
            extra_groups=((2, 2), (1, 1)),
            class_ranks=(24, None, 8, 8),
            class_groups=((2, 3), (1, 1), (2, 2), (1, 1)),
        ),
    ),
}
PACKAGES = {
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "openvino": ("onnx", "onnxscript", "openvino"),
    "ncnn": ("pnnx", "ncnn"),
    "litert": ("litert_torch", "ai_edge_litert", "ai_edge_quantizer"),
    "executorch": ("executorch", "torchao"),
    "coreml": ("coremltools",),
}


def require(name):
    """Skips the test where a package of a format is missing."""
    for package in PACKAGES[name]:
        pytest.importorskip(package, reason=f"needs the extra igcv3det[{FORMATS[name].extra}]")


def lively_detector(config):
    """Random weights, norms with the statistics of a batch, and scores all over 0..1.

    Of `CATEGORIES` where there are three classes, else of ids in 1..K without names of their own.
    """
    torch.manual_seed(0)
    categories = CATEGORIES if config.num_classes == len(CATEGORIES.ids) else None
    detector = build_detector(config, categories).train()
    with torch.no_grad():
        for module in detector.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 1.0
                module.weight.uniform_(0.5, 1.5)
                module.bias.uniform_(-0.5, 0.5)
            elif isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
        detector(torch.randn(8, 3, config.image_size, config.image_size))
    return detector.eval()


def write_images(folder, number=4):
    """Coloured gradients with a bright rectangle, of several sizes."""
    random = np.random.default_rng(0)
    folder.mkdir(exist_ok=True)
    for index in range(number):
        height, width = random.integers(40, 120, 2)
        rows, columns = np.mgrid[:height, :width]
        planes = [rows * 200 // height, columns * 200 // width, (rows + columns) % 200]
        image = np.stack(planes, axis=2).astype(np.uint8)
        top, left = random.integers(0, 20, 2)
        image[top : top + 30, left : left + 40] = random.integers(0, 256, 3)
        write_image(folder / f"{index}.png", image)
    return folder
