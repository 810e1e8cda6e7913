"""A detector as parts.

Beside the blocks' values: ``tap``: SSDLite's fine map; ``map2`` ...: outputs of the extra layers;
``logits0``, ``offsets0`` ...: of the prediction layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from igcv3det.detector import SSDLite
from igcv3det.models.igcv3 import IGCV3
from igcv3det.models.layers import BATCH_NORMS
from igcv3det.models.ssdlite import prediction_rows
from igcv3det.structures import HeadOutputs
from igcv3det.tasks.compress.design import Design, design_of, values
from igcv3det.tasks.compress.parts import TAP, Part, block_parts


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

    @torch.no_grad()
    def reorder_inputs(self, order: Tensor) -> None:
        """Reads the map's channels [C] in another order, in place."""
        for layer in (self.classification, self.regression):
            depthwise, pointwise = (cast(nn.Sequential, layer)[i] for i in (0, 1))
            conv, norm = (cast(nn.Sequential, depthwise)[i] for i in (0, 1))
            assert isinstance(conv, nn.Conv2d)
            assert isinstance(norm, BATCH_NORMS)
            assert isinstance(pointwise, nn.Conv2d)
            assert pointwise.groups == 1
            conv.weight.copy_(conv.weight[order].clone())
            for value in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
                assert value is not None
                value.copy_(value[order].clone())
            pointwise.weight.copy_(pointwise.weight[:, order].clone())


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
        self.outputs = self.prediction.outputs
        if self.extra is not None:
            self.stride, self.outputs = ExtraPart.stride, (*self.outputs, "map2")

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
    parts = block_parts(backbone, design, taps=True)
    count = len(values(design, "blocks"))
    parts["last"] = LastPart(f"x{count - 1}", detector)
    parts["head0"] = PredictionPart(TAP, 0, detector)
    for level in range(2, len(detector.head.classification)):
        if level > 2:
            parts[f"extra{level}"] = ExtraPart(f"map{level - 1}", level, detector)
        parts[f"head{level}"] = PredictionPart(f"map{level}", level, detector)
    return parts


def parts_of(teacher: SSDLite) -> dict[str, Part]:
    """The parts of a detector as its configuration lists them."""
    return split_parts(teacher, design_of(teacher.config))


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
