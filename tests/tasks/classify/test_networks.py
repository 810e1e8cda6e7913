"""Classifier configurations: published parameter counts, and values that are refused."""

import pytest
import torch

from igcv3det.config import BackboneConfig
from igcv3det.measure.complexity import count_multiply_adds, count_parameters
from igcv3det.models.igcv2 import IGCV2Config
from igcv3det.tasks.classify.config import ClassifierConfig, ScheduleConfig
from igcv3det.tasks.classify.networks import build_network

# README of github.com/homles11/IGCV3, in millions: it rounds, and counts of 100 classes fit best
PUBLISHED = {
    "IGCV3-D": (BackboneConfig(), 2.4),
    "IGCV3-D 0.7": (BackboneConfig(repeats=(1, 3, 4, 5, 4, 4, 1)), 1.7),
    "IGCV3-D 0.5": (BackboneConfig(repeats=(1, 2, 3, 4, 2, 2, 1)), 1.2),
    "MobileNetV2": (BackboneConfig(name="mobilenetv2"), 2.3),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_counts(name):
    backbone, millions = PUBLISHED[name]
    low, high = (
        count_parameters(build_network(ClassifierConfig(classes, backbone=backbone))) / 1e6
        for classes in (10, 100)
    )
    assert low < high
    assert min(abs(low - millions), abs(high - millions)) < 0.075


def test_counts_of_the_depth_cuts():
    """Counted independently: 1.15 / 1.27 M and 1.65 / 1.77 M; 166.1 M multiply-adds in full."""
    for repeats, ten, hundred in (
        ((1, 2, 3, 4, 2, 2, 1), 1.15e6, 1.27e6),
        ((1, 3, 4, 5, 4, 4, 1), 1.65e6, 1.77e6),
    ):
        for classes, expected in ((10, ten), (100, hundred)):
            config = ClassifierConfig(classes, backbone=BackboneConfig(repeats=repeats))
            assert count_parameters(build_network(config)) == pytest.approx(expected, abs=5e3)
    full = build_network(ClassifierConfig())
    assert count_multiply_adds(full, (1, 3, 32, 32)) == pytest.approx(166.1e6, rel=1e-3)


@pytest.mark.parametrize(
    "config",
    [
        ClassifierConfig(7, backbone=BackboneConfig(width=0.25)),
        ClassifierConfig(7, backbone=BackboneConfig(name="mobilenetv2", width=0.25)),
        ClassifierConfig(7, igcv2=IGCV2Config(channels=16, blocks=1, layers=2)),
    ],
    ids=["igcv3", "mobilenetv2", "igcv2"],
)
def test_each_family_classifies(config):
    assert build_network(config).eval()(torch.randn(2, 3, 32, 32)).shape == (2, 7)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_classes": 1}, "num_classes must be >= 2"),
        ({"image_size": 4}, "image_size"),
        ({"std": (0.0, 1.0, 1.0)}, "std must be > 0"),
        ({"strides": (1, 2)}, "strides must be eight"),
        ({"strides": (1, 1, 1, 1, 1, 1, 1, 3)}, "strides must be eight"),
    ],
)
def test_ranges(changes, message):
    with pytest.raises(ValueError, match=message):
        ClassifierConfig(**changes)


def test_two_networks_are_refused():
    config = ClassifierConfig(backbone=BackboneConfig(width=0.5), igcv2=IGCV2Config())
    with pytest.raises(ValueError, match="set one of them"):
        build_network(config)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"factor": 0.0}, "factor"),
        ({"curve": "steps"}, "milestones are for curve steps"),
        ({"milestones": (1,)}, "milestones are for curve steps"),
        ({"curve": "steps", "milestones": (3, 2)}, "ascending"),
        ({"curve": "steps", "milestones": (0, 2)}, "ascending"),
    ],
)
def test_schedule_ranges(values, message):
    with pytest.raises(ValueError, match=message):
        ScheduleConfig(**values)
