"""Initial weights of a student, taken from its teacher."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from operator import attrgetter

import numpy as np
import torch
from torch import Tensor, nn

from igcv3det.detector import SSDLite
from igcv3det.models.igcv3 import IGCV3
from igcv3det.models.igcv3_block import IGCV3Block
from igcv3det.models.layers import BATCH_NORMS, channel_order
from igcv3det.models.mobilenetv2 import SECTION_STARTS, TAP_BLOCK, MobileNetV2
from igcv3det.models.sections import NUM_SECTIONS

logger = logging.getLogger(__name__)

_READ_WITH = {
    "stem": ("padding", "backbone.norm_eps"),
    "last": ("backbone.norm_eps",),
    "extras": ("padding", "head.norm_eps"),
    "head": ("head.norm_eps",),
}
"""Fields of the configuration, besides shapes, without which a part's weights mean another part."""
# share of the teacher's standard deviation that later blocks of a stage start with
_LATER_BLOCKS = 0.25


def copy_shared_parts(student: SSDLite, teacher: SSDLite) -> list[str]:
    """Copies stem, last 1x1, extra layers and heads, each where all shapes agree, in place.

    The norm before the fine tap gets the teacher's scale and shift, which are the standard
    deviation and mean that the heads expect there.

    Args:
        student: an IGCV3 or MobileNetV2 detector.
        teacher: likewise, with the same classes in the same order if the head is to be copied.

    Returns:
        The parts that were copied.

    Raises:
        ValueError: a part of these shapes has another padding or epsilon in the teacher.
    """
    copied = []
    for name in shared_parts(student):
        if _copy_part(student, teacher, name):
            copied.append(name)
        else:
            logger.info("the teacher's %s has another shape: initialised at random", name)
    if _copy_tap_scale(student, teacher):
        copied.append("scale of the fine tap")
    return copied


def copy_parts(student: SSDLite, teacher: SSDLite, names: Sequence[str]) -> None:
    """Copies some of `shared_parts`, in place.

    Raises:
        ValueError: a part of the teacher has another shape, padding or epsilon, or its head other
            classes.
    """
    for name in names:
        if not _copy_part(student, teacher, name):
            raise ValueError(f"distillation.copied: the teacher's {name} does not fit the student")


def _copy_part(student: SSDLite, teacher: SSDLite, name: str) -> bool:
    source, target = (shared_parts(detector)[name] for detector in (teacher, student))
    weights, own = source.state_dict(), target.state_dict()
    mapped = dict(zip(own, weights.values(), strict=False))
    fits = len(weights) == len(own) and all(
        mapped[key].shape == value.shape for key, value in own.items()
    )
    if name == "head":
        fits = fits and student.categories == teacher.categories
    if fits:
        require_same_values(student, teacher, _READ_WITH[name], name)
        target.load_state_dict(mapped)
    return fits


def require_same_values(student: SSDLite, teacher: SSDLite, keys: Sequence[str], part: str) -> None:
    """Checks that weights of the teacher compute the same in the student.

    Args:
        student: that takes them.
        teacher: that has them.
        keys: of the detector's configuration.
        part: the weights' name, for the message.

    Raises:
        ValueError: a value differs; the message names the keys and both values.
    """
    values = [(key, *(attrgetter(key)(d.config) for d in (student, teacher))) for key in keys]
    differing = [
        f"model.detector.{key} {other}, not {own}" for key, own, other in values if own != other
    ]
    if differing:
        raise ValueError(
            f"distillation copies the teacher's {part}, which has {'; '.join(differing)}"
        )


@torch.no_grad()
def _copy_tap_scale(student: SSDLite, teacher: SSDLite) -> bool:
    """Mean and deviation of the fine tap before its ReLU6: those of the norm in front of it."""
    target, source = _tap_norm(student), _tap_norm(teacher)
    if target.num_features != source.num_features:
        return False
    target.weight.copy_(source.weight)
    target.bias.copy_(source.bias)
    return True


def _tap_norm(detector: SSDLite) -> nn.BatchNorm2d | nn.SyncBatchNorm:
    backbone = detector.backbone
    if isinstance(backbone, IGCV3):
        block = backbone.blocks[backbone.tap_block]
        assert isinstance(block, IGCV3Block)
        assert isinstance(block.expand, nn.Sequential)
        norm = block.expand[1]
    else:
        assert isinstance(backbone, MobileNetV2)
        norm = backbone.features[TAP_BLOCK].conv[0][1]
    assert isinstance(norm, BATCH_NORMS)
    return norm


def shared_parts(detector: SSDLite) -> dict[str, nn.Module]:
    """The parts that have the same form in every backbone, by name."""
    backbone = detector.backbone
    if isinstance(backbone, IGCV3):
        stem, last = backbone.stem, backbone.last
    else:
        assert isinstance(backbone, MobileNetV2)
        stem, last = backbone.features[0], backbone.features[-1]
    return {"stem": stem, "last": last, "extras": detector.extras, "head": detector.head}


def detector_parts(detector: SSDLite) -> dict[str, list[nn.Module]]:
    """All modules of each of ``tasks.distill.config.DISTILLATION_PARTS``.

    Raises:
        ValueError: the student is not an IGCV3.
    """
    backbone = detector.backbone
    if not isinstance(backbone, IGCV3):
        raise ValueError(
            "only an IGCV3, or what compress makes, can be a student: set model.weights, or "
            "model.detector.backbone.name igcv3"
        )
    parts = {name: [module] for name, module in shared_parts(detector).items()}
    for stage in range(1, NUM_SECTIONS - 1):
        first, end = backbone.stage_starts[stage - 1], backbone.stage_starts[stage]
        parts[f"stage{stage}"] = list(backbone.blocks[first:end])
    return parts


def stage_channels(detector: SSDLite, stage: int) -> int:
    """Output channels of a stage, 1 to 7, of either backbone."""
    backbone = detector.backbone
    if isinstance(backbone, IGCV3):
        block: nn.Module = backbone.blocks[backbone.stage_starts[stage] - 1]
    else:
        assert isinstance(backbone, MobileNetV2)
        block = backbone.features[SECTION_STARTS[stage + 1] - 1]
    convs = [part for part in block.modules() if isinstance(part, nn.Conv2d)]
    return convs[-1].out_channels  # the projection comes last


@torch.no_grad()
def take_statistics(student: SSDLite, features: Sequence[Mapping[int, Tensor]]) -> None:
    """Gives each stage's output the teacher's mean and standard deviation per channel, in place.

    The last norm of the first block takes both; those of the later blocks take mean 0 and a quarter
    of the standard deviation.

    Args:
        student: with an IGCV3 backbone.
        features: the teacher's outputs [B, C, H, W] of parts 1 to 7, by part, for some batches.
    """
    parts = detector_parts(student)
    for part in features[0]:
        blocks = parts[f"stage{part}"]
        rows = torch.cat([maps[part].float().transpose(0, 1).flatten(1) for maps in features], 1)
        mean, deviation = rows.mean(dim=1), rows.std(dim=1)
        for index, block in enumerate(blocks):
            assert isinstance(block, IGCV3Block)
            norm = block.project[1]
            assert isinstance(norm, BATCH_NORMS)
            if len(mean) != norm.num_features:
                raise ValueError(
                    f"stage {part} of the teacher has {len(mean)} channels, the student's "
                    f"{norm.num_features}"
                )
            written = np.argsort(channel_order(block.p2, norm.num_features))
            norm.weight.copy_((deviation if index == 0 else _LATER_BLOCKS * deviation)[written])
            norm.bias.copy_(mean[written] if index == 0 else torch.zeros_like(mean))
