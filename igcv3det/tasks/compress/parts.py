"""A detector as a sequence of parts that read and write named feature maps.

Every part is a position of the search: it is trained, priced and judged alone. The names of values:
``images``; ``x0``, ``x1`` ...: outputs of the blocks; ``tap``: SSDLite's fine map; ``map2`` ...:
outputs of the extra layers; ``logits0``, ``offsets0`` ...: of the prediction layers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from igcv3det.detector import SSDLite
from igcv3det.models.igcv3 import IGCV3
from igcv3det.models.igcv3_block import IGCV3Block
from igcv3det.models.ssdlite import prediction_rows
from igcv3det.structures import HeadOutputs
from igcv3det.tasks.compress.design import Design, design_of, values

IMAGES, TAP = "images", "tap"


class Part(nn.Module):
    """One position of the search.

    Attributes:
        reads: name of the value that it reads.
        outputs: names of those that it writes.
        stride: of the whole part.
    """

    reads: str
    outputs: tuple[str, ...]
    stride = 1

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


class PredictionPart(Part):
    """Classification and box regression of one map."""

    def __init__(self, reads: str, level: int, detector: SSDLite) -> None:
        super().__init__()
        self.reads = reads
        self.outputs = (f"logits{level}", f"offsets{level}")
        self.classification = detector.head.classification[level]
        self.regression = detector.head.regression[level]

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Maps of logits and offsets, [B, anchors per cell times columns, H, W]."""
        return self.classification(x), self.regression(x)


class ExtraPart(Part):
    """One extra layer."""

    stride = 2

    def __init__(self, reads: str, level: int, detector: SSDLite) -> None:
        super().__init__()
        self.reads, self.outputs = reads, (f"map{level}",)
        self.layer = detector.extras.layers[level - 2]

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """The map of half the size."""
        return (self.layer(x),)


class LastPart(Part):
    """The last 1x1 with all that reads it: its prediction layers and the first extra layer."""

    def __init__(self, reads: str, detector: SSDLite) -> None:
        super().__init__()
        self.last = cast(IGCV3, detector.backbone).last
        self.prediction = PredictionPart("", 1, detector)
        self.extra = detector.extras.layers[0] if len(detector.extras.layers) else None
        self.reads = reads
        self.outputs = self.prediction.outputs + (("map2",) if self.extra is not None else ())

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Maps of logits and offsets, and the first extra map."""
        x = self.last(x)
        outputs = self.prediction(x)
        return (*outputs, self.extra(x)) if self.extra is not None else outputs


def split_parts(detector: SSDLite, design: Design) -> dict[str, Part]:
    """The parts of a detector with listed blocks by position, in the order in which they run.

    Args:
        detector: built from ``design``, or a deployed copy.
        design: says how many blocks stand in each place.
    """
    backbone = cast(IGCV3, detector.backbone)
    counts = [len(blocks) for blocks in values(design, "blocks")]
    parts: dict[str, Part] = {}
    start = 0
    for number, count in enumerate(counts):
        blocks = list(backbone.blocks[start : start + count])
        reads, writes = (f"x{number - 1}" if number else IMAGES), f"x{number}"
        is_tap = start == backbone.tap_block and count > 0
        name = "stem" if number == 0 else f"block{number}"
        if is_tap:
            parts[name] = TapPart(reads, writes, blocks)
        else:
            stem = backbone.stem if number == 0 else None
            parts[name] = BlocksPart(reads, writes, blocks, stem)
        # the first block of a stage has the stage's stride
        strides = [cast(nn.Conv2d, cast(IGCV3Block, b).depthwise[0]).stride[0] for b in blocks]
        parts[name].stride = max([1, *strides]) * (2 if number == 0 else 1)
        start += count
    parts["last"] = LastPart(f"x{len(counts) - 1}", detector)
    parts["head0"] = PredictionPart(TAP, 0, detector)
    for level in range(2, len(detector.head.classification)):
        if level > 2:
            parts[f"extra{level}"] = ExtraPart(f"map{level - 1}", level, detector)
        parts[f"head{level}"] = PredictionPart(f"map{level}", level, detector)
    return parts


def parts_of(teacher: SSDLite) -> dict[str, Part]:
    """The parts of a detector as its configuration lists them."""
    return split_parts(teacher, design_of(teacher.config))


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


def head_outputs(found: Mapping[str, Tensor], columns: int) -> HeadOutputs:
    """The detector's raw outputs from the prediction layers' maps.

    Args:
        found: all values by name.
        columns: of the logits of one anchor.
    """
    levels = sum(name.startswith("logits") for name in found)
    logits, offsets = (
        torch.cat([prediction_rows(found[f"{name}{n}"], width) for n in range(levels)], dim=1)
        for name, width in (("logits", columns), ("offsets", 4))
    )
    return HeadOutputs(logits, offsets)
