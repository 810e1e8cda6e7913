"""Initialises an IGCV3 from a MobileNetV2.

MobileNetV2's block is IGCV3's with one group and a ReLU6 after the expansion as well. So its
weights fit into every second block of an IGCV3-D, and the other blocks start as the identity. With
``groups: [1, 1]`` and ``relu: both`` the result computes the same function as the MobileNetV2; with
more groups each 1x1 keeps only the weights within its groups, and needs training.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from igcv3det.detector import SSDLite
from igcv3det.models.igcv3 import IGCV3
from igcv3det.models.igcv3_block import IGCV3Block
from igcv3det.models.layers import channel_order
from igcv3det.models.mobilenetv2 import SECTION_STARTS, MobileNetV2
from igcv3det.models.sections import NUM_SECTIONS
from igcv3det.tasks.distill.start import copy_shared_parts, require_same_values


@torch.no_grad()
def morph(student: SSDLite, teacher: SSDLite) -> None:
    """Gives an IGCV3 detector the weights of a MobileNetV2 detector, in place.

    Args:
        student: its stages must have the teacher's widths and at least as many blocks.
        teacher: with a MobileNetV2 backbone.

    Raises:
        ValueError: other backbones, another padding or epsilon, or stages that do not fit; the
            message names the key or the stage.
    """
    target, source = student.backbone, teacher.backbone
    if not isinstance(target, IGCV3) or not isinstance(source, MobileNetV2):
        raise ValueError(
            "distillation.start morph needs an igcv3 student and a mobilenetv2 teacher"
        )
    require_same_values(student, teacher, ("padding", "backbone.norm_eps"), "backbone")
    copy_shared_parts(student, teacher)
    for stage in range(1, NUM_SECTIONS - 1):
        blocks = list(target.blocks[target.stage_starts[stage - 1] : target.stage_starts[stage]])
        inserted = list(source.features[SECTION_STARTS[stage] : SECTION_STARTS[stage + 1]])
        if len(blocks) < len(inserted):
            raise ValueError(
                f"stage {stage}: {len(blocks)} blocks cannot hold the teacher's {len(inserted)}"
            )
        spacing = len(blocks) // len(inserted)
        for index, block in enumerate(blocks):
            assert isinstance(block, IGCV3Block)
            number, rest = divmod(index, spacing)
            if rest == 0 and number < len(inserted):
                _take(block, inserted[number], f"stage {stage}, block {index}")
            else:
                _, norm = _conv_and_norm(block.project)
                nn.init.zeros_(norm.weight)
                nn.init.zeros_(norm.bias)


def _take(block: IGCV3Block, source: nn.Module, where: str) -> None:
    """Copies the weights of torchvision's InvertedResidual, whose first has no expansion."""
    inside = source.conv
    assert isinstance(inside, nn.Sequential)
    *before, project, norm = inside.children()
    parts = nn.ModuleList([*before, nn.Sequential(project, norm)])
    has_expansion = not isinstance(block.expand, nn.Identity)
    (depthwise, depthwise_norm), (narrow, narrow_norm) = (
        _conv_and_norm(part) for part in (block.depthwise, block.project)
    )
    source_depthwise, source_depthwise_norm = _conv_and_norm(parts[-2])
    source_narrow, source_narrow_norm = _conv_and_norm(parts[-1])
    if depthwise.weight.shape != source_depthwise.weight.shape or (
        narrow.out_channels != source_narrow.out_channels or (len(parts) == 3 and not has_expansion)
    ):
        raise ValueError(f"{where}: other widths than the teacher's")
    if has_expansion:
        expand, expand_norm = _conv_and_norm(block.expand)
        if len(parts) == 3:
            source_expand, source_expand_norm = _conv_and_norm(parts[0])
            expand.weight.copy_(_diagonal_blocks(source_expand.weight, expand.groups))
            expand_norm.load_state_dict(source_expand_norm.state_dict())
        else:
            _set_identity(expand, expand_norm)
    order = channel_order(block.p1, depthwise.in_channels)
    depthwise.weight.copy_(source_depthwise.weight[order])
    _copy_norm(depthwise_norm, source_depthwise_norm, order)
    written = np.argsort(channel_order(block.p2, narrow.out_channels))
    rows = source_narrow.weight[written][:, order]
    narrow.weight.copy_(_diagonal_blocks(rows, narrow.groups))
    _copy_norm(narrow_norm, source_narrow_norm, written)


def _copy_norm(norm: nn.BatchNorm2d, source: nn.BatchNorm2d, order: NDArray[np.int64]) -> None:
    for name, value in source.state_dict().items():
        norm.state_dict()[name].copy_(value[order] if value.ndim else value)


def _conv_and_norm(part: nn.Module) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    conv, norm, *_ = part.children()
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    return conv, norm


def _set_identity(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    width = conv.in_channels // conv.groups
    rows = torch.arange(conv.out_channels)
    nn.init.zeros_(conv.weight)
    conv.weight[rows, rows % width] = 1
    norm.reset_parameters()
    assert norm.running_var is not None
    norm.running_var.fill_(1 - norm.eps)


def _diagonal_blocks(dense: Tensor, groups: int) -> Tensor:
    """[C', C / groups, 1, 1]: the diagonal blocks of [C', C, 1, 1], stacked."""
    width = dense.shape[1] // groups
    return torch.cat(
        [rows[:, i * width : (i + 1) * width] for i, rows in enumerate(dense.chunk(groups))]
    )
