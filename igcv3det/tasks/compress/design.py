"""The description of a network part by part, so that one part can be exchanged.

A design maps keys to values. ``stem``, ``last`` and ``last_groups`` are channels and groups;
``blocks.N`` are the blocks that stand where block N of the original stood (one, two or none). Of a
detector, ``extra_hidden.N`` and ``extra_groups.N`` belong to extra layer N, ``class_rank.N`` and
``class_groups.N`` to map N.
"""

from __future__ import annotations

import dataclasses
from itertools import pairwise
from typing import Any

from igcv3det.config import BackboneConfig, BlockConfig, DetectorConfig, Groups
from igcv3det.detector import SSDLite, build_detector
from igcv3det.models.explicit_blocks import explicit_config, explicit_weights

Design = dict[str, Any]


def explicit_detector(detector: SSDLite) -> SSDLite:
    """The same detector as an IGCV3 whose blocks are listed, in evaluation mode."""
    config = detector.config
    backbone = explicit_config(detector.backbone, config.backbone)
    listed = build_detector(dataclasses.replace(config, backbone=backbone), detector.categories)
    others = {k: v for k, v in detector.state_dict().items() if not k.startswith("backbone.")}
    inner = explicit_weights(detector.backbone)
    listed.load_state_dict({**{f"backbone.{k}": v for k, v in inner.items()}, **others})
    return listed.eval().requires_grad_(False)


def backbone_design(backbone: BackboneConfig) -> Design:
    """The design of a backbone whose blocks are listed."""
    assert backbone.blocks is not None
    design: Design = {
        "stem": backbone.stem_channels,
        "last": backbone.last_channels,
        "last_groups": backbone.last_groups,
    }
    return design | {f"blocks.{n}": (block,) for n, block in enumerate(backbone.blocks)}


def backbone_of(design: Design, original: BackboneConfig) -> BackboneConfig:
    """The configuration of a design's backbone; what a design does not name is the original's."""
    return dataclasses.replace(
        original,
        stem_channels=design["stem"],
        last_channels=design["last"],
        last_groups=design["last_groups"],
        blocks=tuple(block for blocks in values(design, "blocks") for block in blocks),
    )


def design_of(config: DetectorConfig) -> Design:
    """The design of a detector whose blocks are listed."""
    head = config.head
    extras = range(len(head.extra_channels))
    design = backbone_design(config.backbone)
    for n in extras:
        hidden = head.extra_channels[n] // 2 if head.extra_hidden is None else head.extra_hidden[n]
        design[f"extra_hidden.{n}"] = hidden
        design[f"extra_groups.{n}"] = (1, 1) if head.extra_groups is None else head.extra_groups[n]
    for n in range(len(extras) + 2):
        design[f"class_rank.{n}"] = None if head.class_ranks is None else head.class_ranks[n]
        design[f"class_groups.{n}"] = (1, 1) if head.class_groups is None else head.class_groups[n]
    return design


def config_of(design: Design, original: DetectorConfig) -> DetectorConfig:
    """The configuration of a design; what a design does not name is the original's."""
    backbone = backbone_of(design, original.backbone)
    ranks = values(design, "class_rank")
    head = dataclasses.replace(
        original.head,
        extra_hidden=values(design, "extra_hidden"),
        extra_groups=values(design, "extra_groups"),
        class_ranks=ranks if any(ranks) else None,
        class_groups=values(design, "class_groups") if any(ranks) else None,
    )
    return dataclasses.replace(original, backbone=backbone, head=head)


def values(design: Design, key: str) -> tuple[Any, ...]:
    """The values of ``key.0``, ``key.1`` and so on."""
    found: list[Any] = []
    while f"{key}.{len(found)}" in design:
        found.append(design[f"{key}.{len(found)}"])
    return tuple(found)


def build(design: Design, original: SSDLite) -> SSDLite:
    """A detector of a design with random weights, in evaluation mode.

    Raises:
        ValueError: the design's parts do not fit together.
    """
    config = config_of(design, original.config)
    return build_detector(config, original.categories).eval()


def starts_stage(backbone: BackboneConfig) -> list[bool]:
    """For each listed block whether it is the first of its stage."""
    assert backbone.blocks is not None
    stages = [0, *(block.stage for block in backbone.blocks)]
    return [stage > before for before, stage in pairwise(stages)]


def with_groups(block: BlockConfig, groups: Groups) -> BlockConfig:
    """The paper's block of a dense one's channels; its permutation moves single channels."""
    return dataclasses.replace(block, groups=groups, relu="depthwise", super_channels=None)


def two_blocks(block: BlockConfig, groups: Groups) -> tuple[BlockConfig, BlockConfig]:
    """IGCV3-D's two blocks in the place of one (paper section 4.3)."""
    first = with_groups(block, groups)
    return first, dataclasses.replace(first, hidden=block.channels * 6, shortcut=True)
