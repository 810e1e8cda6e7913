"""What may stand in the place of each part of a detector."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from igcv3det.config import DetectorConfig, Groups
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

DENSE: Groups = (1, 1)


def find_candidates(
    config: DetectorConfig, grouped_stages: tuple[int, ...] = ()
) -> dict[str, list[Candidate]]:
    """All candidates by position, the original first.

    Args:
        config: of a detector with listed blocks.
        grouped_stages: see `block_candidates`.

    Raises:
        ValueError: a block of these stages cannot be grouped.
    """
    design = design_of(config)
    tap = _tap(design)
    found = block_candidates(config.backbone, grouped_stages, tap)
    if design["class_groups.0"][0] > 1:
        _keep_order(found, f"block{tap}")
    columns = [count * (config.num_classes + 1) for count in _per_cell(config)]
    found["last"] = with_original("last", _last(design, config, columns[1]))
    for level, width in enumerate(columns):
        if level > 2:
            found[f"extra{level}"] = with_original(f"extra{level}", _extra(design, config, level))
        if level != 1:
            of_map = design[f"blocks.{tap}"][0].hidden if level == 0 else _map(config, level)
            ranks = _ranks(design, level, of_map, width, grouped=level > 0)
            found[f"head{level}"] = with_original(f"head{level}", ranks)
    return found


def _keep_order(found: dict[str, list[Candidate]], tap: str) -> None:
    """Leaves out what would reorder the fine map: a grouped 1x1 reads its channels in one order."""
    found[tap] = [c for c in found[tap] if c.is_original]
    if not found[tap]:
        raise ValueError(
            f"--grouped-stages {TAP_STAGE + 1}: {tap} cannot be grouped, because the first "
            "classification layer, which reads its channels, is grouped"
        )


def _last(design: Design, config: DetectorConfig, columns: int) -> Iterator[Named]:
    """The last 1x1 narrower, its classification layer split, the first extra layer narrower."""
    last, hidden = design["last"], design.get("extra_hidden.0")
    rank = rounded(min(last, columns) * 0.4)
    is_split = design["class_rank.1"] is None and rank * (last + columns) < 0.8 * last * columns
    split: dict[str, Any] = {"class_rank.1": rank} if is_split else {}
    half = 0 if hidden is None else rounded(hidden * 0.5)
    narrower: dict[str, Any] = {"extra_hidden.0": half, "extra_groups.0": DENSE}
    extra = narrower if hidden is not None and half < hidden else {}
    label = f"rank {rank}"
    if split:
        yield label, split
        if fits((2, 2), last, rank, columns):  # loses less than the dense one of its rank
            split, label = {**split, "class_groups.1": (2, 2)}, f"{label} groups 2x2"
            yield label, split
    if extra:
        yield "extra 0.5", extra
    is_dense = design.get("extra_groups.0") == DENSE
    if hidden and is_dense and fits((2, 2), last, hidden, config.head.extra_channels[0]):
        yield "extra groups 2x2", {"extra_groups.0": (2, 2)}
    for share in SHARES:
        narrow: dict[str, Any] = {"last": rounded(last * share)}
        if not _split_pays(design | narrow, columns):
            narrow |= {"class_rank.1": None, "class_groups.1": DENSE}
        named = {"": narrow}
        if split:
            named[f" {label}"] = narrow | split
        if extra:
            named[f" {label} extra 0.5" if split else " extra 0.5"] = narrow | split | extra
        for name, changes in named.items():
            if narrow["last"] < last and _builds_last(design | changes, columns):
                yield f"channels {share:g}{name}", changes


def _builds_last(design: Design, columns: int) -> bool:
    """Whether groups divide the last 1x1's channels and the split of the classification pays."""
    keys = ("class_groups.1", "extra_groups.0")
    groups = [design["last_groups"], *(design.get(key, DENSE)[0] for key in keys)]
    return not any(design["last"] % count for count in groups) and _split_pays(design, columns)


def _split_pays(design: Design, columns: int) -> bool:
    """Whether two 1x1 behind the last one have fewer weights than one, where there are two."""
    rank, (first, second) = design["class_rank.1"], design["class_groups.1"]
    last = design["last"]
    return rank is None or rank * (last / first + columns / second) < last * columns


def _extra(design: Design, config: DetectorConfig, level: int) -> Iterator[Named]:
    index = level - 2
    hidden, groups = design[f"extra_hidden.{index}"], f"extra_groups.{index}"
    for share in (0.5, 0.25):
        narrower = rounded(hidden * share)
        if narrower < hidden:
            yield f"hidden {share:g}", {f"extra_hidden.{index}": narrower, groups: DENSE}
    entering, leaving = (config.head.extra_channels[i] for i in (index - 1, index))
    if design[groups] == DENSE and fits((2, 2), entering, hidden, leaving):
        yield "groups 2x2", {groups: (2, 2)}


def _ranks(
    design: Design, level: int, channels: int, columns: int, *, grouped: bool
) -> Iterator[Named]:
    key, groups, own = f"class_rank.{level}", f"class_groups.{level}", design[f"class_rank.{level}"]
    for share in (0.5, 0.25):
        rank = rounded(min(channels, columns) * share)
        pays = rank * (channels + columns) < 0.8 * channels * columns
        if pays and (own is None or rank < own):
            yield f"rank {rank}", {key: rank, groups: DENSE}
            if grouped and share == 0.5 and fits((2, 2), channels, rank, columns):
                yield f"rank {rank} groups 2x2", {key: rank, groups: (2, 2)}


def _tap(design: Design) -> int:
    stages = [blocks[0].stage for blocks in values(design, "blocks")]
    return stages.index(TAP_STAGE + 1)


def _per_cell(config: DetectorConfig) -> list[int]:
    return anchors_per_cell(config.anchors, len(config.head.extra_channels) + 2)


def _map(config: DetectorConfig, level: int) -> int:
    return config.head.extra_channels[level - 2]
