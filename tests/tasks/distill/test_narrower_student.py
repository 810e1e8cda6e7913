"""A student whose last 1x1 is narrower than the teacher's."""

import dataclasses

import pytest
from distillation_networks import HEAD

from igcv3det.config import BackboneConfig, DetectorConfig
from igcv3det.detector import build_detector
from igcv3det.tasks.compress.design import build, design_of, explicit_detector
from igcv3det.tasks.distill.config import DistillationConfig
from igcv3det.tasks.distill.student import DistillationObjective


def test_maps_of_other_channels_cannot_be_compared():
    config = DetectorConfig(
        num_classes=2, image_size=64, backbone=BackboneConfig(name="mobilenetv2"), head=HEAD
    )
    teacher = explicit_detector(build_detector(config))
    student = build(design_of(teacher.config) | {"last": 640}, teacher)
    objective = DistillationObjective(DistillationConfig(frozen=("stem",)))
    with pytest.raises(ValueError, match=r"tap_weight is set.*\(576, 640\).*\(576, 1280\)"):
        objective.require_same_maps(student, teacher)
    without = dataclasses.replace(DistillationConfig(), tap_weight=0)
    DistillationObjective(without).require_same_maps(student, teacher)
