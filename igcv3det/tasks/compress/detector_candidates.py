"""What may stand in the place of each part of a detector."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from igcv3det.config import DetectorConfig
from igcv3det.detection.anchors import anchors_per_cell
from igcv3det.models.igcv3 import TAP_STAGE
from igcv3det.tasks.compress.candidates import (
    SHARES,
    Candidate,
    Named,
    block_candidates,
    fits,
    rounded,
    with_original,
)
from igcv3det.tasks.compress.design import Design, design_of, values


def find_candidates(
    config: DetectorConfig, grouped_stages: tuple[int, ...] = ()
) -> dict[str, list[Candidate]]:
    """All candidates by position, the original first.

    Args:
        config: of a detector with listed blocks.
        grouped_stages: see `block_candidates`.

    Raises:
        ValueError: a block of these stages has channels that no groups divide.
    """
    design = design_of(config)
    tap = _tap(design)
    found = block_candidates(config.backbone, grouped_stages, tap)
    columns = [count * (config.num_classes + 1) for count in _per_cell(config)]
    found["last"] = with_original("last", _last(design, columns[1]))
    for level, width in enumerate(columns):
        if level > 2:
            found[f"extra{level}"] = with_original(f"extra{level}", _extra(design, config, level))
        if level != 1:
            of_map = design[f"blocks.{tap}"][0].hidden if level == 0 else _map(config, level)
            ranks = _ranks(level, of_map, width, grouped=level > 0)
            found[f"head{level}"] = with_original(f"head{level}", ranks)
    return found


def _last(design: Design, columns: int) -> Iterator[Named]:
    """The last 1x1 narrower, its classification layer split, the first extra layer narrower."""
    last, hidden = design["last"], design.get("extra_hidden.0")
    rank = rounded(min(last, columns) * 0.4)
    is_split = design["class_rank.1"] is None and rank * (last + columns) < 0.8 * last * columns
    split: dict[str, Any] = {"class_rank.1": rank} if is_split else {}
    half = 0 if hidden is None else rounded(hidden * 0.5)
    extra = {"extra_hidden.0": half} if hidden is not None and half < hidden else {}
    label = f"rank {rank}"
    if split:
        yield label, split
        if fits((2, 2), last, rank, columns):  # loses less than the dense one of its rank
            split, label = {**split, "class_groups.1": (2, 2)}, f"{label} groups 2x2"
            yield label, split
    if extra:
        yield "extra 0.5", extra
    if hidden is not None and fits((2, 2), last, hidden, hidden * 2):
        yield "extra groups 2x2", {"extra_groups.0": (2, 2)}
    for share in SHARES:
        narrow: dict[str, Any] = {"last": rounded(last * share)}
        if narrow["last"] >= last:
            continue
        yield f"channels {share:g}", narrow
        if split:
            yield f"channels {share:g} {label}", narrow | split
        if extra and split:
            yield f"channels {share:g} {label} extra 0.5", narrow | split | extra
        elif extra:
            yield f"channels {share:g} extra 0.5", narrow | extra


def _extra(design: Design, config: DetectorConfig, level: int) -> Iterator[Named]:
    index = level - 2
    hidden = design[f"extra_hidden.{index}"]
    for share in (0.5, 0.25):
        narrower = rounded(hidden * share)
        if narrower < hidden:
            yield f"hidden {share:g}", {f"extra_hidden.{index}": narrower}
    entering, leaving = (config.head.extra_channels[i] for i in (index - 1, index))
    is_dense = design[f"extra_groups.{index}"] == (1, 1)
    if is_dense and fits((2, 2), entering, hidden, leaving):
        yield "groups 2x2", {f"extra_groups.{index}": (2, 2)}


def _ranks(level: int, channels: int, columns: int, *, grouped: bool) -> Iterator[Named]:
    for share in (0.5, 0.25):
        rank = rounded(min(channels, columns) * share)
        if rank * (channels + columns) < 0.8 * channels * columns:
            yield f"rank {rank}", {f"class_rank.{level}": rank}
            if grouped and share == 0.5 and fits((2, 2), channels, rank, columns):
                changes = {f"class_rank.{level}": rank, f"class_groups.{level}": (2, 2)}
                yield f"rank {rank} groups 2x2", changes


def _tap(design: Design) -> int:
    stages = [blocks[0].stage for blocks in values(design, "blocks")]
    return stages.index(TAP_STAGE + 1)


def _per_cell(config: DetectorConfig) -> list[int]:
    return anchors_per_cell(config.anchors, len(config.head.extra_channels) + 2)


def _map(config: DetectorConfig, level: int) -> int:
    return config.head.extra_channels[level - 2]
