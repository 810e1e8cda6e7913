"""Configurations: every number has a range, and every error names the whole key."""

import dataclasses
import math

import numpy as np
import pytest

from igcv3det.config import (
    AnchorConfig,
    AugmentConfig,
    BackboneConfig,
    BlockConfig,
    DetectorConfig,
    HeadConfig,
    LossConfig,
    OptimConfig,
    PostprocessConfig,
    config_from_dict,
    flatten,
    merge_config,
)
from igcv3det.models.igcv2 import IGCV2Config
from igcv3det.tasks.classify.config import ScheduleConfig
from igcv3det.tasks.distill.config import CropConfig, DistillationConfig
from igcv3det.tasks.segment.config import SegmenterConfig

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
        (OptimConfig, {"lr": 10**400}, r"optim\.lr must be a finite number"),
        (DetectorConfig, {"num_classes": 10**400, "image_size": 10**400}, r"image_size must be in"),
        (DetectorConfig, {"num_classes": True}, "num_classes must be a whole number, got True"),
        (DetectorConfig, {"padding": "SAME"}, r"padding must be one of \['symmetric', 'same'\]"),
        (DetectorConfig, {"variances": (0.1, 0.2)}, "variances must have 4 values"),
        (BackboneConfig, {"variant": "d"}, r"backbone\.variant must be one of \['D', 'W'\]"),
        (BackboneConfig, {"name": "igcv2"}, r"backbone\.name must be one of"),
        (BackboneConfig, {"groups": 2}, r"backbone\.groups must be a list, got 2"),
        (BackboneConfig, {"p1": "false"}, r"backbone\.p1 must be of type bool"),
        (BackboneConfig, {"repeats": (1, 1.5)}, r"backbone\.repeats must be a whole number"),
        (BlockConfig, {"stage": "4", "channels": 8}, r"blocks\.stage must be a whole number"),
        (BlockConfig, {"stage": 8, "channels": 8}, r"blocks\.stage must be in \[1, 7\], got 8"),
        (AnchorConfig, {"layout": "tf"}, r"anchors\.layout must be one of"),
        (AnchorConfig, {"shapes": (((0.1, math.nan),),)}, r"shapes\[0\]\[0\] must be a finite"),
        (AnchorConfig, {"shapes": (((0.1, 0.2),), ())}, "at least one width and height for each"),
        (AnchorConfig, {"shapes": (((0.1, 2.5),),)}, r"anchors\.shapes must be in \(0, 2\]"),
        (AnchorConfig, {"trained_size": 10**11}, r"trained_size must be in \[1, 8192\]"),
        (HeadConfig, {"activation": "Sigmoid"}, r"head\.activation must be one of"),
        (CropConfig, {"size": 31}, r"crop\.size must be >= 32, got 31"),
        (DistillationConfig, {"frozen": "head"}, r"distillation\.frozen must be a list"),
        (ScheduleConfig, {"curve": "line"}, r"schedule\.curve must be one of"),
        (SegmenterConfig, {"output_stride": 8}, r"segmenter\.output_stride must be one of"),
        (IGCV2Config, {"norm_eps": 0}, r"igcv2\.norm_eps must be in \(0, 1\)"),
    ],
)
def test_wrong_values_are_refused_from_python_too(kind, values, message):
    with pytest.raises(ValueError, match=message):
        kind(**values)


def test_numbers_of_numpy_become_pythons():
    config = PostprocessConfig(np.float32(0.5), detections_per_image=np.int64(3))
    assert (config.score_threshold, config.detections_per_image) == (0.5, 3)
    assert type(config.score_threshold) is float
    assert type(config.detections_per_image) is int


def test_lists_become_tuples_and_mappings_configurations():
    blocks = [BlockConfig(stage, 8, 16) for stage in range(1, 8)]
    config = DetectorConfig(backbone={"blocks": blocks}, head=HeadConfig([16], extra_hidden=[8]))
    assert config.backbone == BackboneConfig(blocks=tuple(blocks))
    assert config.head.extra_channels == (16,)
    assert isinstance(hash(config), int)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"channels": None}, "must be a whole number, got None"),
        ({"channels": 0}, r"channels must be in \[1, 65536\], got 0"),
        ({"hiden": 8}, r"has no field \['hiden'\]"),
        ({"groups": [2, 2, 2]}, "groups must have 2 values"),
    ],
)
def test_a_block_is_named_by_its_index(change, message):
    blocks = [{"stage": stage, "channels": 8, "hidden": 16} for stage in range(1, 8)]
    blocks[4] |= change
    with pytest.raises(ValueError, match=r"^a\.backbone\.blocks\[4\].*" + message):
        config_from_dict(BackboneConfig, {"blocks": blocks}, "a.backbone")


@pytest.mark.parametrize("field", ["stage", "channels"])
def test_a_block_without_a_required_field(field):
    blocks = [{"stage": stage, "channels": 8, "hidden": 16} for stage in range(1, 8)]
    del blocks[4][field]
    with pytest.raises(ValueError, match=rf"^backbone\.blocks\[4\] lacks \['{field}'\]"):
        config_from_dict(BackboneConfig, {"blocks": blocks}, "backbone")
