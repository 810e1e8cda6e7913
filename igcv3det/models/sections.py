"""The nine sections that both backbones are divided into: stem, seven stages, last 1x1."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

NUM_SECTIONS = 9


class SectionedBackbone(Protocol):
    """A backbone that can be run section by section."""

    def forward_section(self, section: int, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """A section's output, and SSDLite's fine tap from the section that has it."""


def tapped_features(backbone: SectionedBackbone, x: Tensor) -> list[Tensor]:
    """SSDLite's taps for images [B, 3, H, W], finest first: the fine tap and the last section."""
    taps: list[Tensor] = []
    for section in range(NUM_SECTIONS):
        x, tap = backbone.forward_section(section, x)
        if tap is not None:
            taps.append(tap)
    return [*taps, x]
