"""A candidate's part with its initial weights."""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from igcv3det.fastpath.block_variants import Block
from igcv3det.tasks.compress.candidates import Candidate
from igcv3det.tasks.compress.folded import fold_block
from igcv3det.tasks.compress.initial import block_source, fill, narrow
from igcv3det.tasks.compress.parts import TAP, BlocksPart, Part
from igcv3det.tasks.compress.teacher import Metrics, Teacher


class Replacement(NamedTuple):
    """A candidate's part.

    Attributes:
        part: with weights.
        tap_order: [E], which channel of the original's fine map is at each position of this one;
            None where the order is the original's.
    """

    part: Part
    tap_order: Tensor | None = None

    def outputs(self, inputs: Tensor) -> dict[str, Tensor]:
        """The part's values by name, with the channels of the fine map in the original's order."""
        found = dict(zip(self.part.outputs, self.part(inputs), strict=True))
        if self.tap_order is not None:
            found[TAP] = found[TAP][:, torch.argsort(self.tap_order)]
        return found


@torch.no_grad()
def start_candidate(
    candidate: Candidate, teacher: Teacher, inputs: Tensor, metrics: Metrics
) -> Replacement:
    """The candidate's part with initial weights made from the teacher's.

    Args:
        candidate: not the original.
        teacher: whose part is replaced.
        inputs: [B, C, H, W], the teacher's values at the part's input.
        metrics: `features.read_fisher`.
    """
    original = teacher.parts()[candidate.position]
    changed = teacher.design | candidate.changes
    part = teacher.split(teacher.build(changed), changed)[candidate.position]
    order: Tensor | None = None
    if isinstance(part, BlocksPart):
        order = _start_blocks(part, cast(BlocksPart, original), inputs, metrics)
    else:
        teacher.start_part(part, original, inputs, metrics)
    return Replacement(part.eval(), order if TAP in part.outputs else None)


def _start_blocks(
    part: BlocksPart, original: BlocksPart, inputs: Tensor, metrics: Metrics
) -> Tensor | None:
    metric = metrics[part.outputs[-1]]
    source_block = cast(Block, original.blocks[0])
    blocks = [cast(Block, block) for block in part.blocks]
    if not blocks:
        return None
    if part.stem is not None and isinstance(source_block.get_submodule("expand"), nn.Sequential):
        assert original.stem is not None
        part.stem.load_state_dict(original.stem.state_dict())
        inputs = original.stem(inputs)
    elif part.stem is not None:
        source = block_source(fold_block(source_block), source_block, inputs, metric, original.stem)
        narrow(blocks[0], source, part.stem)
        return None
    order = start_block(blocks[0], source_block, inputs, metric)
    for block in blocks[1:]:  # the identity, until it is trained
        nn.init.zeros_(block.get_submodule("project").get_parameter("1.weight"))
    return order


def start_block(block: Block, original: Block, inputs: Tensor, metric: Tensor) -> Tensor | None:
    """Gives a block or extra layer its initial weights; returns the order of a grouped one."""
    return fill(block, block_source(fold_block(original), original, inputs, metric))
