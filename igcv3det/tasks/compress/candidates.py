"""What may stand in the place of each block, and what all candidates share."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from igcv3det.config import BackboneConfig, BlockConfig, Groups
from igcv3det.tasks.compress.design import (
    Design,
    backbone_design,
    starts_stage,
    two_blocks,
    values,
    with_groups,
)

ORIGINAL = "original"
GROUPS: tuple[Groups, ...] = ((2, 2), (2, 4), (4, 2), (4, 4))
SHARES = (0.75, 0.5, 0.25)
_LANES = 16  # channels of a vector register: other widths cost as much as the next multiple
_MIN_GROUP = 4  # channels
Named = tuple[str, Design]


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


def block_candidates(
    backbone: BackboneConfig, grouped_stages: tuple[int, ...] = (), tap: int | None = None
) -> dict[str, list[Candidate]]:
    """The candidates of all blocks by position, the original first.

    Args:
        backbone: with listed blocks.
        grouped_stages: stages whose blocks must be grouped: no others are offered there.
        tap: number of the block whose expansion the network reads, which must stay as wide.

    Raises:
        ValueError: a block of these stages cannot be grouped.
    """
    design = backbone_design(backbone)
    found: dict[str, list[Candidate]] = {}
    first = starts_stage(backbone)
    for number, (block,) in enumerate(values(design, "blocks")):
        name = "stem" if number == 0 else f"block{number}"
        entering = _channels_before(design, number)
        named = _stem(design, block) if number == 0 else []
        if block.hidden is not None:
            named = list(
                _blocks(number, block, entering, is_first=first[number], is_tap=number == tap)
            )
        own = with_original(name, named)
        if block.stage in grouped_stages:
            own = [c for c in own if _is_grouped(c.changes.get(f"blocks.{number}", (block,)))]
            if not own:
                raise ValueError(
                    f"--grouped-stages {block.stage}: block {number} of stage {block.stage} cannot "
                    f"be grouped: {_why_not_grouped(block)}"
                )
        found[name] = own
    return found


def with_original(position: str, named: Iterable[Named]) -> list[Candidate]:
    """The candidates of a position: what is there, and others by name and changes, each once."""
    own: list[Candidate] = []
    for name, changes in named:
        if all(changes != other.changes for other in own):  # few channels round to one width
            own.append(Candidate(position, name, changes))
    return [Candidate(position, ORIGINAL, {}), *own]


def _blocks(
    number: int, block: BlockConfig, entering: int, *, is_first: bool, is_tap: bool
) -> Iterator[Named]:
    key = f"blocks.{number}"
    assert block.hidden is not None
    if block.groups == (1, 1):
        for groups in GROUPS:
            grouped = with_groups(block, groups)
            if fits(groups, entering, block.hidden, block.channels):
                yield f"groups {groups[0]}x{groups[1]}", {key: (grouped,)}
        if fits((2, 2), entering, block.hidden, block.channels):
            yield "two blocks 2x2", {key: two_blocks(block, (2, 2))}
    if not is_tap:
        for share in SHARES:
            hidden = rounded(block.hidden * share)
            if hidden < block.hidden:
                plain = dataclasses.replace(
                    block, hidden=hidden, groups=(1, 1), super_channels=None
                )
                yield f"hidden {share:g}", {key: (plain,)}
        if block.shortcut and not is_first:
            yield "nothing", {key: ()}


def _stem(design: Design, block: BlockConfig) -> list[Named]:
    if block.hidden is not None or block.shortcut:  # which needs as many channels as the stem has
        return []
    found = []
    for share in (0.75, 0.5):
        channels = rounded(design["stem"] * share, 8)
        if channels < design["stem"]:
            found.append((f"channels {share:g}", {"stem": channels}))
    return found


def fits(groups: Groups, entering: int, hidden: int, leaving: int) -> bool:
    """Whether a block of these channels can have groups, none of them too small."""
    first, second = groups
    divides = not (entering % first or hidden % (first * second) or leaving % second)
    return divides and min(entering // first, leaving // second) >= _MIN_GROUP


def rounded(channels: float, divisor: int = _LANES) -> int:
    """The nearest width that a vector register fills."""
    return max(divisor, round(channels / divisor) * divisor)


def _why_not_grouped(block: BlockConfig) -> str:
    if block.hidden is None:
        return "it has no expansion"
    if block.groups != (1, 1):
        return f"only one of its 1x1 convolutions is, {block.groups}"
    return f"none of the groups {GROUPS} divides its channels"


def _is_grouped(blocks: tuple[BlockConfig, ...]) -> bool:
    return bool(blocks) and all(min(block.groups) >= 2 for block in blocks)


def _channels_before(design: Design, number: int) -> int:
    channels: int = design["stem"] if number == 0 else design[f"blocks.{number - 1}"][0].channels
    return channels
