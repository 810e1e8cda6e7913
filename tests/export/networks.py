"""Detectors small enough to export in seconds, with scores as varied as a trained one's."""

import numpy as np
import pytest
import torch
from torch import nn

from igcv3det.config import (
    AnchorConfig,
    BackboneConfig,
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
    """Random weights, norms with the statistics of a batch, and scores all over 0..1."""
    torch.manual_seed(0)
    detector = build_detector(config, CATEGORIES).train()
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
