"""The nine parts that both backbones are walked through by: stem, seven stages, last 1x1."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

PARTS = 9


class PartedBackbone(Protocol):
    """What both backbones of this package offer."""

    def forward_part(self, part: int, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """One of the nine parts: its output, and the fine tap of SSDLite where it holds it."""


def tapped_features(backbone: PartedBackbone, x: Tensor) -> list[Tensor]:
    """The taps of SSDLite for images [B, 3, H, W], finest first: the fine one and the last part."""
    taps: list[Tensor] = []
    for part in range(PARTS):
        x, tap = backbone.forward_part(part, x)
        if tap is not None:
            taps.append(tap)
    return [*taps, x]
