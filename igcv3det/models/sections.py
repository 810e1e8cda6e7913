"""The nine parts that both backbones are walked through by: stem, seven stages, last 1x1."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

NUM_SECTIONS = 9


class SectionedBackbone(Protocol):
    """What both backbones of this package offer."""

    def forward_section(self, part: int, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """One of the nine parts: its output, and the fine tap of SSDLite where it holds it."""


def tapped_features(backbone: SectionedBackbone, x: Tensor) -> list[Tensor]:
    """The taps of SSDLite for images [B, 3, H, W], finest first: the fine one and the last part."""
    taps: list[Tensor] = []
    for part in range(NUM_SECTIONS):
        x, tap = backbone.forward_section(part, x)
        if tap is not None:
            taps.append(tap)
    return [*taps, x]
