"""Configurations: every number has a range, and every error names the whole key."""

import dataclasses
import math

import numpy as np
import pytest

from igcv3det.config import (
    AugmentConfig,
    BackboneConfig,
    DetectorConfig,
    LossConfig,
    OptimConfig,
    PostprocessConfig,
    config_from_dict,
    flatten,
    merge_config,
)

CONFIGS = {
    "model.detector": DetectorConfig,
    "model.loss": LossConfig,
    "model.optim": OptimConfig,
    "data.augment": AugmentConfig,
}


def numbers(kind, where):
    """Key and default of every number of a configuration and of those inside it."""
    for name, value in flatten(dataclasses.asdict(kind())).items():
        first = value[0] if isinstance(value, tuple) else value
        if isinstance(first, int | float) and not isinstance(first, bool):
            yield f"{where}.{name}", value


NUMBERS = [pair for where, kind in CONFIGS.items() for pair in numbers(kind, where)]


def build(key, value):
    where, kind = next(pair for pair in CONFIGS.items() if key.startswith(pair[0] + "."))
    values = value
    for name in reversed(key.removeprefix(where + ".").split(".")):
        values = {name: values}
    return config_from_dict(kind, values, where)


@pytest.mark.parametrize(("key", "default"), NUMBERS, ids=[key for key, _ in NUMBERS])
def test_every_number_has_a_range(key, default):
    """-1 is wrong for every number of ours; NaN and infinity are for every float."""
    wrong = [-1]
    first = default[0] if isinstance(default, tuple) else default
    wrong += [math.nan, math.inf] if isinstance(first, float) else []
    for value in wrong:
        given = (value, *default[1:]) if isinstance(default, tuple) else value
        with pytest.raises(ValueError, match=r"must be|needs? ") as caught:
            build(key, given)
        parent, _, name = key.rpartition(".")
        assert str(caught.value).startswith(parent)
        assert name in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model.detector.image_size", 31),
        ("model.detector.image_size", 8193),
        ("model.optim.lr_batch_size", 0),
        ("model.optim.momentum", 1.0),
        ("model.loss.label_smoothing", 3.0),
        ("model.loss.label_smoothing", 1.0),
        ("model.loss.focal_alpha", 1.5),
        ("model.detector.backbone.norm_momentum", 0.0),
        ("model.detector.backbone.groups", [0, 2]),
        ("model.detector.head.extra_channels", [16, 0]),
        ("model.detector.preprocess.mean", [0.0, 0.0, 256.0]),
        ("model.detector.postprocess.detections_per_image", 0),
        ("data.augment.crop_min_scale", 0.0),
    ],
)
def test_ends_of_ranges(key, value):
    with pytest.raises(ValueError, match=f"^{key} must be"):
        build(key, value)


def test_none_is_no_number():
    assert OptimConfig(lr_batch_size=None, ema_decay=None).lr_batch_size is None


def test_merging_keeps_what_is_not_named():
    base = DetectorConfig(padding="same", backbone=BackboneConfig(width=0.5, depth=0.5))
    merged = merge_config(base, {"image_size": 64, "backbone": {"width": 0.25}})
    assert merged == dataclasses.replace(
        base, image_size=64, backbone=BackboneConfig(width=0.25, depth=0.5)
    )
    with pytest.raises(ValueError, match=r"model\.detector\.backbone has no field \['wdth'\]"):
        merge_config(base, {"backbone": {"wdth": 1}}, "model.detector")


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (PostprocessConfig, {"detections_per_image": 2.5}, "must be a whole number, got 2.5"),
        (PostprocessConfig, {"score_threshold": "0.5"}, "must be a number, got '0.5'"),
        (DetectorConfig, {"num_classes": 2.0}, "must be a whole number, got 2.0"),
        (DetectorConfig, {"image_size": 320.5}, "must be a whole number, got 320.5"),
        (OptimConfig, {"lr": "1e-3"}, "must be a number, got '1e-3'"),
    ],
)
def test_numbers_of_another_kind_are_refused_from_python_too(kind, values, message):
    with pytest.raises(ValueError, match=message):
        kind(**values)


def test_numbers_of_numpy_are_numbers():
    config = PostprocessConfig(np.float32(0.5), detections_per_image=np.int64(3))
    assert config.detections_per_image == 3
