"""The anchors of a detector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from igcv3det.config.values import GREATEST_SIDE, check_fields, require


@dataclass(frozen=True)
class AnchorConfig:
    """Anchors on each feature map."""

    layout: Literal["torchvision", "tensorflow"] = "torchvision"
    """Order of the anchors in a cell, and whether widths are clipped (torchvision) or not."""
    min_scale: float = 0.2
    """Side of the smallest square as a share of the image."""
    max_scale: float = 0.95
    """Side of the square on the last map."""
    aspect_ratios: tuple[float, ...] = (2.0, 3.0)
    """Width to height; each adds an anchor of that ratio and one of its inverse."""
    reduce_lowest: bool = False
    """Three anchors (scales 0.1, min, min; ratios 1, 2, 1/2) on the finest map (TensorFlow)."""
    shapes: tuple[tuple[tuple[float, float], ...], ...] | None = None
    """(width, height) of every anchor of a cell as shares of the image, for each map, finest first;
    takes the place of scales and ratios, as a fit to a data set gives them."""
    stride8_scale: float | None = None
    """Side of the smallest square on a further map of stride 8, for small objects, as a share of
    the image; null: no such map."""

    trained_size: int | None = None
    """Side of the input that the weights were trained at, pixels, where ``image_size`` is another:
    anchors keep the pixels, and their places around what a cell sees, that they had there. null:
    ``image_size``."""

    def __post_init__(self) -> None:
        check_fields(self, "anchors", shapes="(0, 2]", trained_size=f"[1, {GREATEST_SIDE}]")
        require(
            self.shapes is None or (len(self.shapes) > 0 and all(self.shapes)),
            "anchors.shapes must have at least one width and height for each map",
            self.shapes,
        )
        require(
            self.stride8_scale is None or 0 < self.stride8_scale <= self.min_scale,
            "anchors.stride8_scale must be in (0, min_scale]",
            self.stride8_scale,
        )
        require(
            0 < self.min_scale < self.max_scale <= 1,
            "anchors need 0 < min_scale < max_scale <= 1",
            (self.min_scale, self.max_scale),
        )
        require(
            all(ratio > 1 for ratio in self.aspect_ratios),
            "anchors.aspect_ratios must be > 1 (their inverses are included)",
            self.aspect_ratios,
        )
