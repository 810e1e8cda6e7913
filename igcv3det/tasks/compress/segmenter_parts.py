"""A segmenter as parts.

Beside the blocks' values: ``coarse``: what the last map adds to the logits; ``fine``: what Lite
R-ASPP's fine map does, the output of the last block at stride 8.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import cast

from torch import Tensor, nn

from igcv3det.models.deeplab import DeepLabHead
from igcv3det.models.explicit_blocks import explicit_config, explicit_weights
from igcv3det.models.igcv3 import IGCV3
from igcv3det.models.lraspp import LRASPPHead, add_coarse, coarse_logits
from igcv3det.tasks.compress.design import Design, backbone_of, values
from igcv3det.tasks.compress.parts import Part, block_parts
from igcv3det.tasks.segment.config import SegmenterConfig
from igcv3det.tasks.segment.network import LOW_STAGE, Segmenter

COARSE, FINE = "coarse", "fine"


class CoarsePart(Part):
    """The last 1x1 with Lite R-ASPP's layers behind it."""

    is_local = False  # it averages the whole map
    outputs = (COARSE,)

    def __init__(self, reads: str, last: nn.Module, head: LRASPPHead) -> None:
        super().__init__()
        self.reads, self.last = reads, last
        self.cbr, self.scale, self.classifier = head.cbr, head.scale, head.high_classifier

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Coarse logits [B, K, H, W]."""
        return (coarse_logits(self.cbr, self.scale, self.classifier, self.last(x)),)


class DeepLabPart(Part):
    """The last 1x1 with DeepLabV3's head."""

    is_local = False
    outputs = (COARSE,)

    def __init__(self, reads: str, last: nn.Module, head: DeepLabHead) -> None:
        super().__init__()
        self.reads, self.last, self.head = reads, last, head

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Logits [B, K, H, W]."""
        return (self.head(self.last(x)),)


class FinePart(Part):
    """Lite R-ASPP's classifier of the fine map."""

    outputs = (FINE,)

    def __init__(self, reads: str, head: LRASPPHead) -> None:
        super().__init__()
        self.reads, self.classifier = reads, head.low_classifier

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Fine logits [B, K, H, W]."""
        return (self.classifier(x),)


def explicit_segmenter(segmenter: Segmenter) -> Segmenter:
    """The same segmenter on an IGCV3 whose blocks are listed, in evaluation mode."""
    backbone = explicit_config(segmenter.backbone, segmenter.config.backbone)
    config = dataclasses.replace(segmenter.config, backbone=backbone)
    listed = Segmenter(config, segmenter.names)
    listed.backbone.load_state_dict(explicit_weights(segmenter.backbone))
    listed.head.load_state_dict(segmenter.head.state_dict())
    return listed.eval().requires_grad_(False)


def build_segmenter(design: Design, original: Segmenter) -> Segmenter:
    """A segmenter of a design with random weights, in evaluation mode.

    Raises:
        ValueError: the design's parts do not fit together.
    """
    backbone = backbone_of(design, original.config.backbone)
    config: SegmenterConfig = dataclasses.replace(original.config, backbone=backbone)
    return Segmenter(config, original.names).eval()


def split_segmenter(
    segmenter: Segmenter, original: SegmenterConfig, design: Design
) -> dict[str, Part]:
    """The parts of a segmenter with listed blocks by position, in the order in which they run.

    Args:
        segmenter: built from ``design``, or a deployed copy.
        original: the configuration of the segmenter that is made smaller.
        design: says how many blocks stand in each place.
    """
    backbone, head = cast(IGCV3, segmenter.backbone), segmenter.head
    parts = block_parts(backbone, design, taps=False)
    reads = f"x{len(values(design, 'blocks')) - 1}"
    if isinstance(head, DeepLabHead):
        parts["last"] = DeepLabPart(reads, backbone.last, head)
        return parts
    parts["last"] = CoarsePart(reads, backbone.last, head)
    assert original.backbone.blocks is not None
    low = sum(block.stage <= LOW_STAGE for block in original.backbone.blocks) - 1
    parts["fine"] = FinePart(f"x{low}", head)
    return parts


def logits_of(found: Mapping[str, Tensor]) -> Tensor:
    """Logits [B, K, H, W] at the size of the head's finest map, from the parts' values."""
    return add_coarse(found[FINE], found[COARSE]) if FINE in found else found[COARSE]
