"""The numbers of distillation, in the manner of `igcv3det.config`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from igcv3det.config import require

DISTILLATION_PARTS = ("stem", *(f"stage{n}" for n in range(1, 8)), "last", "extras", "head")

SHARED_PARTS = ("stem", "last", "extras", "head")
"""Parts that do not depend on the family of the backbone."""


@dataclass(frozen=True)
class ViewConfig:
    """Random views of square images, for distillation."""

    size: int = 192
    """Side of a view, pixels."""
    min_scale: float = 0.75
    """Least magnification; 1 keeps the density of the stored square."""
    max_scale: float = 1.35
    """Greatest magnification."""
    max_aspect: float = 1.25
    """Width to height is changed by up to this factor, either way."""
    flip: float = 0.5
    """Share of mirrored views."""
    colour: float = 0.2
    """Brightness, contrast and saturation change by up to this share."""

    def __post_init__(self) -> None:
        require(self.size >= 32, "view.size must be >= 32 pixels", self.size)
        require(
            0 < self.min_scale <= self.max_scale,
            "view needs 0 < min_scale <= max_scale",
            (self.min_scale, self.max_scale),
        )
        require(self.max_aspect >= 1, "view.max_aspect must be >= 1", self.max_aspect)
        require(0 <= self.flip <= 1, "view.flip must be in [0, 1]", self.flip)
        require(0 <= self.colour < 1, "view.colour must be in [0, 1)", self.colour)


@dataclass(frozen=True)
class DistillationConfig:
    """What a student learns of its teacher, and which of its parts learn."""

    start: Literal["random", "shared", "morph"] = "random"
    """random; shared: parts of the teacher's very shape are copied, the stages' last norms take its
    statistics; morph: a MobileNetV2 made into an IGCV3 (`tasks.distill.morph`)."""
    copied: tuple[str, ...] = ()
    """Parts that become the teacher's after all, wherever the student starts: stem, last, extras,
    head."""
    frozen: tuple[str, ...] = ()
    """Parts that stay as they are: stem, stage1 ... stage7, last, extras, head."""
    batch_statistics_steps: int | None = None
    """For so many steps batch norms learn their statistics and normalise each batch by its own;
    then they go on with what they have learnt. None: to the end. The statistics of a batch are
    noise to a student whose outputs have a target each, and forbid small batches."""
    teacher_tail: bool = False
    """What follows the last part that learns is the teacher's own, frozen, in place of the
    student's: a stage then learns what counts for the teacher's scores."""
    teacher_forcing_steps: int = 0
    """For so many steps each part is fed with the teacher's features instead of the student's."""
    stage_weights: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0)
    """Of the seven stages' unexplained variance."""
    mapped_stages: tuple[int, ...] = ()
    """Stages, 1 to 7, that need not have the teacher's channels one by one: they are compared after
    the linear map that fits best (`tasks.distill.channel_map`)."""
    tap_weight: float = 1.0
    """Of the unexplained variance of the two maps that the heads read."""
    score_weight: float = 0.05
    """Of the divergence of class scores, nats an image."""
    offset_weight: float = 1.0
    """Of the offsets' smooth L1."""
    box_weight: float = 0.0
    """Of the MultiBox loss on the boxes of ``data.boxes``."""

    def __post_init__(self) -> None:
        require(
            len(self.stage_weights) == 7 and min(self.stage_weights) >= 0,
            "distillation.stage_weights must be seven weights >= 0",
            self.stage_weights,
        )
        require(
            set(self.mapped_stages) <= set(range(1, 8)),
            "distillation.mapped_stages takes numbers from 1 to 7",
            self.mapped_stages,
        )
        unknown = set(self.frozen) - set(DISTILLATION_PARTS)
        require(not unknown, f"distillation.frozen takes {DISTILLATION_PARTS}", sorted(unknown))
        require(
            not self.teacher_tail or {"extras", "head"} <= set(self.frozen),
            "distillation.teacher_tail: extras and head are the teacher's then, and must be frozen",
            self.frozen,
        )
        require(
            self.teacher_forcing_steps >= 0,
            "distillation.teacher_forcing_steps must be >= 0",
            self.teacher_forcing_steps,
        )
        require(
            set(self.copied) <= set(SHARED_PARTS),
            f"distillation.copied takes {SHARED_PARTS}",
            self.copied,
        )
        require(
            self.batch_statistics_steps is None or self.batch_statistics_steps >= 0,
            "distillation.batch_statistics_steps must be >= 0 or null",
            self.batch_statistics_steps,
        )
        weights = (self.tap_weight, self.score_weight, self.offset_weight, self.box_weight)
        require(min(weights) >= 0, "distillation's weights must be >= 0", weights)
