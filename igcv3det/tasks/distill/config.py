"""Configuration of distillation; frozen dataclasses as in `igcv3det.config`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from igcv3det.config import check_fields, require
from igcv3det.config.values import LEAST_SIDE

DISTILLATION_PARTS = ("stem", *(f"stage{n}" for n in range(1, 8)), "last", "extras", "head")

SHARED_PARTS = ("stem", "last", "extras", "head")
"""Parts that have the same form in every backbone."""


@dataclass(frozen=True)
class CropConfig:
    """Random crops of square images, for distillation."""

    size: int = 192
    """Side of a crop, pixels."""
    min_scale: float = 0.75
    """Smallest magnification; 1 keeps the resolution of the stored square."""
    max_scale: float = 1.35
    """Largest magnification."""
    max_aspect: float = 1.25
    """The ratio of width to height changes by up to this factor, either way."""
    flip: float = 0.5
    """Probability of a horizontal flip."""
    colour: float = 0.2
    """Brightness, contrast and saturation change by up to this share."""
    sharpen: float = 0.0
    """Greatest strength of sharpening; each crop draws its own between 0 and this. Images that were
    stored small and enlarged lack detail: at 1, images of 256 pixels enlarged to 300 get about
    the mean spectrum of full-size photographs reduced to 300 (`tasks.distill.crops`)."""

    def __post_init__(self) -> None:
        check_fields(
            self,
            "crop",
            size=f"[{LEAST_SIDE}, inf)",
            max_aspect="[1, inf)",
            flip="[0, 1]",
            colour="[0, 1)",
            sharpen="[0, 4]",
        )
        require(
            0 < self.min_scale <= self.max_scale,
            "crop needs 0 < min_scale <= max_scale",
            (self.min_scale, self.max_scale),
        )


@dataclass(frozen=True)
class DistillationConfig:
    """Terms of the distillation loss, and which parts of the student are trained."""

    start: Literal["random", "shared", "morph"] = "random"
    """Initial weights. random; shared: parts with the teacher's shapes are copied, the last norm of
    each stage takes the teacher's statistics; morph: the weights of a MobileNetV2, inserted into an
    IGCV3 (`tasks.distill.morph`)."""
    copied: tuple[str, ...] = ()
    """Parts copied from the teacher after the start, also after ``model.weights``: stem, last,
    extras, head."""
    frozen: tuple[str, ...] = ()
    """Parts that are not trained: stem, stage1 ... stage7, last, extras, head."""
    batch_statistics_steps: int | None = None
    """Steps in which batch norms normalise by the batch and update their running statistics; after
    them the running statistics are used and stay fixed. None: no end. Batch statistics add noise to
    a student whose every output has a target, and rule out small batches."""
    teacher_tail: bool = False
    """Replaces the parts after the last trained one by the teacher's, frozen, so that a stage is
    trained for what matters to the teacher's scores."""
    teacher_forcing_steps: int = 0
    """Steps in which the input of each part is the teacher's features, not the student's."""
    stage_weights: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0)
    """Weights of the seven stages' unexplained variance."""
    mapped_stages: tuple[int, ...] = ()
    """Stages, 1 to 7, compared after the best-fitting linear map of the student's channels to the
    teacher's (`tasks.distill.channel_map`)."""
    tap_weight: float = 1.0
    """Weight of the unexplained variance of the two maps that the heads read."""
    score_weight: float = 0.05
    """Weight of the Kullback-Leibler divergence of the class scores, in nats per image."""
    offset_weight: float = 1.0
    """Weight of the smooth L1 of the offsets."""
    box_weight: float = 0.0
    """Weight of the MultiBox loss on the boxes of ``data.boxes``."""

    def __post_init__(self) -> None:
        check_fields(
            self,
            "distillation",
            batch_statistics_steps="[0, inf)",
            teacher_forcing_steps="[0, inf)",
            stage_weights="[0, inf)",
            mapped_stages="[1, 7]",
            tap_weight="[0, inf)",
            score_weight="[0, inf)",
            offset_weight="[0, inf)",
            box_weight="[0, inf)",
        )
        require(
            len(self.stage_weights) == 7,
            "distillation.stage_weights must be seven weights",
            self.stage_weights,
        )
        unknown = set(self.frozen) - set(DISTILLATION_PARTS)
        require(not unknown, f"distillation.frozen takes {DISTILLATION_PARTS}", sorted(unknown))
        require(
            not self.teacher_tail or {"extras", "head"} <= set(self.frozen),
            "distillation.teacher_tail uses the teacher's extras and head: both must be frozen",
            self.frozen,
        )
        require(
            set(self.copied) <= set(SHARED_PARTS),
            f"distillation.copied takes {SHARED_PARTS}",
            self.copied,
        )

    @property
    def compares_heads(self) -> bool:
        """Whether class scores or offsets are compared with the teacher's."""
        return max(self.score_weight, self.offset_weight) > 0
