"""What may stand in the place of each part."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, NamedTuple

from igcv3det.config import BlockConfig, DetectorConfig, Groups
from igcv3det.detection.anchors import anchors_per_cell
from igcv3det.models.igcv3 import TAP_STAGE
from igcv3det.tasks.compress.design import Design, design_of, starts_stage, two_blocks, values

ORIGINAL = "original"
GROUPS: tuple[Groups, ...] = ((2, 2), (2, 4), (4, 2), (4, 4))
SHARES = (0.75, 0.5, 0.25)
_LANES = 16  # channels of a vector register: other widths cost as much as the next multiple
_MIN_GROUP = 4  # channels


class Candidate(NamedTuple):
    """One replacement of one part.

    Attributes:
        position: name of the part.
        name: of the candidate.
        changes: of the design.
    """

    position: str
    name: str
    changes: Design

    @property
    def key(self) -> str:
        """Name of its files."""
        return f"{self.position}-{self.name}".replace(" ", "_").replace("(", "").replace(")", "")

    @property
    def is_original(self) -> bool:
        """Whether nothing is replaced."""
        return not self.changes


def find_candidates(
    config: DetectorConfig, grouped_stages: tuple[int, ...] = ()
) -> dict[str, list[Candidate]]:
    """All candidates by position, the original first.

    Args:
        config: of a detector with listed blocks.
        grouped_stages: stages whose blocks must be grouped: no others are offered there.

    Raises:
        ValueError: a block of these stages has channels that no groups divide.
    """
    design = design_of(config)
    found: dict[str, list[Candidate]] = {}
    first = starts_stage(config.backbone)
    tap = _tap(design)
    for number, (block,) in enumerate(values(design, "blocks")):
        name = "stem" if number == 0 else f"block{number}"
        entering = _channels_before(design, number)
        named = _stem(design, block) if number == 0 else []
        if block.hidden is not None:
            named = list(
                _blocks(number, block, entering, is_first=first[number], is_tap=number == tap)
            )
        own = [Candidate(name, ORIGINAL, {}), *(Candidate(name, *change) for change in named)]
        if block.stage in grouped_stages:
            own = [c for c in own if _is_grouped(c.changes.get(f"blocks.{number}", (block,)))]
            if not own:
                raise ValueError(
                    f"block {number}: none of the groups {GROUPS} divides its channels"
                )
        found[name] = own
    columns = [count * (config.num_classes + 1) for count in _per_cell(config)]
    found["last"] = [Candidate("last", *c) for c in [(ORIGINAL, {}), *_last(design, columns[1])]]
    for level, width in enumerate(columns):
        if level > 2:
            extra = [(ORIGINAL, {}), *_extra(design, config, level)]
            found[f"extra{level}"] = [Candidate(f"extra{level}", *c) for c in extra]
        if level != 1:
            of_map = design[f"blocks.{tap}"][0].hidden if level == 0 else _map(config, level)
            ranks = [(ORIGINAL, {}), *_ranks(level, of_map, width, grouped=level > 0)]
            found[f"head{level}"] = [Candidate(f"head{level}", *c) for c in ranks]
    return found


Named = tuple[str, dict[str, Any]]


def _blocks(
    number: int, block: BlockConfig, entering: int, *, is_first: bool, is_tap: bool
) -> Iterator[Named]:
    key = f"blocks.{number}"
    assert block.hidden is not None
    if block.groups == (1, 1):
        for groups in GROUPS:
            grouped = dataclasses.replace(block, groups=groups, relu="depthwise")
            if _fits(groups, entering, block.hidden, block.channels):
                yield f"groups {groups[0]}x{groups[1]}", {key: (grouped,)}
        if _fits((2, 2), entering, block.hidden, block.channels):
            yield "two blocks 2x2", {key: two_blocks(block, (2, 2))}
    if not is_tap:
        for share in SHARES:
            hidden = _rounded(block.hidden * share)
            if hidden < block.hidden:
                plain = dataclasses.replace(
                    block, hidden=hidden, groups=(1, 1), super_channels=None
                )
                yield f"hidden {share:g}", {key: (plain,)}
        if block.shortcut and not is_first:
            yield "nothing", {key: ()}


def _stem(design: Design, block: BlockConfig) -> list[Named]:
    if block.hidden is not None:
        return []
    found = []
    for share in (0.75, 0.5):
        channels = _rounded(design["stem"] * share, 8)
        if channels < design["stem"]:
            found.append((f"channels {share:g}", {"stem": channels}))
    return found


def _last(design: Design, columns: int) -> Iterator[Named]:
    """The last 1x1 narrower, its classification layer split, the first extra layer narrower."""
    last, hidden = design["last"], design.get("extra_hidden.0")
    rank = _rounded(min(last, columns) * 0.4)
    is_split = design["class_rank.1"] is None and rank * (last + columns) < 0.8 * last * columns
    split: dict[str, Any] = {"class_rank.1": rank} if is_split else {}
    half = 0 if hidden is None else _rounded(hidden * 0.5)
    extra = {"extra_hidden.0": half} if hidden is not None and half < hidden else {}
    label = f"rank {rank}"
    if split:
        yield label, split
        if _fits((2, 2), last, rank, columns):  # loses less than the dense one of its rank
            split, label = {**split, "class_groups.1": (2, 2)}, f"{label} groups 2x2"
            yield label, split
    if extra:
        yield "extra 0.5", extra
    if hidden is not None and _fits((2, 2), last, hidden, hidden * 2):
        yield "extra groups 2x2", {"extra_groups.0": (2, 2)}
    for share in SHARES:
        narrow: dict[str, Any] = {"last": _rounded(last * share)}
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
        narrower = _rounded(hidden * share)
        if narrower < hidden:
            yield f"hidden {share:g}", {f"extra_hidden.{index}": narrower}
    entering, leaving = (config.head.extra_channels[i] for i in (index - 1, index))
    is_dense = design[f"extra_groups.{index}"] == (1, 1)
    if is_dense and _fits((2, 2), entering, hidden, leaving):
        yield "groups 2x2", {f"extra_groups.{index}": (2, 2)}


def _ranks(level: int, channels: int, columns: int, *, grouped: bool) -> Iterator[Named]:
    for share in (0.5, 0.25):
        rank = _rounded(min(channels, columns) * share)
        if rank * (channels + columns) < 0.8 * channels * columns:
            yield f"rank {rank}", {f"class_rank.{level}": rank}
            if grouped and share == 0.5 and _fits((2, 2), channels, rank, columns):
                changes = {f"class_rank.{level}": rank, f"class_groups.{level}": (2, 2)}
                yield f"rank {rank} groups 2x2", changes


def _fits(groups: Groups, entering: int, hidden: int, leaving: int) -> bool:
    first, second = groups
    divides = not (entering % first or hidden % (first * second) or leaving % second)
    return divides and min(entering // first, leaving // second) >= _MIN_GROUP


def _rounded(channels: float, divisor: int = _LANES) -> int:
    return max(divisor, round(channels / divisor) * divisor)


def _is_grouped(blocks: tuple[BlockConfig, ...]) -> bool:
    return bool(blocks) and all(min(block.groups) >= 2 for block in blocks)


def _tap(design: Design) -> int:
    stages = [blocks[0].stage for blocks in values(design, "blocks")]
    return stages.index(TAP_STAGE + 1)


def _channels_before(design: Design, number: int) -> int:
    channels: int = design["stem"] if number == 0 else design[f"blocks.{number - 1}"][0].channels
    return channels


def _per_cell(config: DetectorConfig) -> list[int]:
    return anchors_per_cell(config.anchors, len(config.head.extra_channels) + 2)


def _map(config: DetectorConfig, level: int) -> int:
    return config.head.extra_channels[level - 2]
