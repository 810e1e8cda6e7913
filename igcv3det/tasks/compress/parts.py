"""A network as a sequence of parts that read and write named feature maps.

Every part is a position of the search: it is trained, priced and judged alone. The names of values:
``images``; ``x0``, ``x1`` ...: outputs of the blocks; others belong to the kind of network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F

from igcv3det.models.igcv3 import IGCV3
from igcv3det.models.igcv3_block import IGCV3Block
from igcv3det.tasks.compress.design import Design, values

IMAGES, TAP = "images", "tap"


class Part(nn.Module):
    """One position of the search.

    Attributes:
        reads: name of the value that it reads.
        outputs: names of those that it writes.
        stride: of the whole part.
        margin: cells at the border of a window that lack neighbours.
        is_local: whether a window of its output follows from one of its input.
    """

    reads: str
    outputs: tuple[str, ...]
    stride = 1
    margin = 2
    is_local = True

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """The outputs, in order, of the input [B, C, H, W]."""
        raise NotImplementedError


class BlocksPart(Part):
    """The blocks that stand in the place of one block, with the stem where they are the first."""

    def __init__(
        self, reads: str, writes: str, blocks: Sequence[nn.Module], stem: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.reads, self.outputs = reads, (writes,)
        self.stem = stem
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """The last block's output."""
        if self.stem is not None:
            x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return (x,)


class TapPart(BlocksPart):
    """As `BlocksPart`; the first block's expansion is SSDLite's fine map."""

    def __init__(self, reads: str, writes: str, blocks: Sequence[nn.Module]) -> None:
        super().__init__(reads, writes, blocks)
        self.outputs = (TAP, writes)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """The fine map after ReLU6, and the last block's output."""
        first, *others = self.blocks
        block = cast(IGCV3Block, first)
        expanded = block.expand(x)
        x = block.after_expansion(expanded, x)
        for other in others:
            x = other(x)
        return F.relu6(expanded), x


def block_parts(backbone: IGCV3, design: Design, *, taps: bool) -> dict[str, Part]:
    """The parts of a backbone's blocks by position, the stem with the first.

    Args:
        backbone: built from ``design``, or a deployed copy.
        design: says how many blocks stand in each place.
        taps: whether SSDLite's fine map is a value.
    """
    parts: dict[str, Part] = {}
    start = 0
    for number, count in enumerate(len(blocks) for blocks in values(design, "blocks")):
        blocks = list(backbone.blocks[start : start + count])
        reads, writes = (f"x{number - 1}" if number else IMAGES), f"x{number}"
        name = "stem" if number == 0 else f"block{number}"
        if taps and start == backbone.tap_block and count > 0:
            parts[name] = TapPart(reads, writes, blocks)
        else:
            stem = backbone.stem if number == 0 else None
            parts[name] = BlocksPart(reads, writes, blocks, stem)
        convs = [cast(nn.Conv2d, cast(IGCV3Block, b).depthwise[0]) for b in blocks]
        # the first block of a stage has the stage's stride
        parts[name].stride = max([1, *(c.stride[0] for c in convs)]) * (2 if number == 0 else 1)
        parts[name].margin = Part.margin * max([1, *(c.dilation[0] for c in convs)])
        start += count
    return parts


def run_parts(parts: Mapping[str, Part], found: dict[str, Tensor]) -> dict[str, Tensor]:
    """Runs all parts whose outputs are not there yet.

    Args:
        parts: in the order in which they run.
        found: values by name, at least the images; it is left unchanged.

    Returns:
        All values by name.
    """
    found = dict(found)
    for part in parts.values():
        if not all(name in found for name in part.outputs):
            found.update(zip(part.outputs, part(found[part.reads]), strict=True))
    return found


class Chain(nn.Module):
    """Some parts as one function of what the first of them reads.

    Args:
        parts: in the order in which they run; each reads what one before writes.
    """

    def __init__(self, parts: dict[str, Part]) -> None:
        super().__init__()
        self.parts = nn.ModuleDict(parts)
        self.reads = next(iter(parts.values())).reads
        read = {part.reads for part in parts.values()}
        written = (name for part in parts.values() for name in part.outputs)
        self.writes = tuple(name for name in written if name not in read)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """The outputs that no part of the chain reads."""
        parts: dict[str, Part] = dict(self.parts.items())  # type: ignore[arg-type]
        found = run_parts(parts, {self.reads: x})
        return tuple(found[name] for name in self.writes)
