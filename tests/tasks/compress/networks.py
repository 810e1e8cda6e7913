"""Small networks whose norms and weights are not those of a fresh network."""

import dataclasses

import torch
from torch import nn

from igcv3det.config import BackboneConfig, DetectorConfig, HeadConfig
from igcv3det.detector import build_detector
from igcv3det.tasks.compress.design import explicit_detector
from igcv3det.tasks.compress.detector_teacher import DetectorTeacher

SIZE = 64
MOBILENETV2 = DetectorConfig(
    num_classes=2,
    image_size=SIZE,
    padding="same",
    backbone=BackboneConfig(name="mobilenetv2", width=0.25),
    head=HeadConfig(extra_channels=(32, 32), activation="sigmoid"),
)
IGCV3 = DetectorConfig(
    num_classes=2,
    image_size=SIZE,
    backbone=BackboneConfig(width=0.25, repeats=(1, 2, 1, 2, 1, 2, 1)),
    head=HeadConfig(extra_channels=(32, 32)),
)
PERMUTED = dataclasses.replace(IGCV3, backbone=dataclasses.replace(IGCV3.backbone, p2=True))
COMPRESSED = dataclasses.replace(
    MOBILENETV2,
    num_classes=9,
    backbone=BackboneConfig(width=0.25, repeats=(1, 1, 1, 1, 1, 2, 1)),
    head=HeadConfig(
        extra_channels=(64, 64, 64),
        activation="sigmoid",
        extra_hidden=(24, 36, 32),
        extra_groups=((2, 2), (4, 4), (1, 1)),
        class_ranks=(24, 40, 24, 20, None),
        class_groups=((1, 1), (2, 2), (2, 2), (1, 1), (1, 1)),
    ),
)
"""Split class layers and grouped, narrowed extra layers, as the search leaves them."""


def small_detector(config, seed=0):
    torch.manual_seed(seed)
    return randomise_norms(build_detector(config)).eval()


def randomise_norms(network):
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.weight, 0.7, 1.3)
            nn.init.normal_(part.bias, std=0.3)
            nn.init.normal_(part.running_mean, std=0.1)
            nn.init.uniform_(part.running_var, 0.7, 1.3)
    return network


def explicit_of(config, seed=0):
    return explicit_detector(small_detector(config, seed))


def teacher_of(config, seed=0):
    return DetectorTeacher(explicit_of(config, seed))
