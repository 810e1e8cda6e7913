"""The student's forward pass with the distillation losses along it."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from igcv3det.detector import SSDLite
from igcv3det.models.igcv3 import TAP_STAGE
from igcv3det.models.sections import NUM_SECTIONS, SectionedBackbone
from igcv3det.structures import HeadOutputs
from igcv3det.tasks.distill.config import DISTILLATION_PARTS, DistillationConfig
from igcv3det.tasks.distill.losses import offset_error, unexplained_variance
from igcv3det.tasks.distill.teacher import (
    LOGITS,
    OFFSETS,
    PREFIX,
    TAP,
    part_name,
)
from igcv3det.tasks.divergence import logits_divergence

STAGES = range(1, NUM_SECTIONS - 1)
LAST = NUM_SECTIONS - 1


class DistillationObjective:
    """The terms of the distillation loss; only what a term needs is computed.

    Args:
        config: weights of the terms, and frozen parts.
        maps: a `ChannelMap` for each of the mapped stages, under `part_name`.
        tail: the frozen teacher, where ``teacher_tail`` is set.

    Attributes:
        prefix: number of frozen leading parts, which `TeacherNetwork` runs; at most those before
            the stage of the fine tap.
        own_end: the tail, if there is one, replaces parts from this one on, and the heads.
        end: parts from this one on are not run; 9 where all are.
        compares_heads: class scores or offsets are compared with the teacher's.
        uses_heads: the heads are run.

    Raises:
        ValueError: every part that a term depends on is frozen.
    """

    def __init__(
        self,
        config: DistillationConfig,
        maps: nn.ModuleDict | None = None,
        tail: SSDLite | None = None,
    ) -> None:
        self.config, self.tail = config, tail
        self.maps = nn.ModuleDict() if maps is None else maps
        names = DISTILLATION_PARTS[:NUM_SECTIONS]  # without extra layers and heads
        frozen = next(
            (i for i, name in enumerate(names) if name not in config.frozen), NUM_SECTIONS
        )
        self.prefix = min(frozen, TAP_STAGE + 1)  # `losses` itself must run the tap's stage
        self.compares_heads = config.compares_heads
        self.uses_heads = self.compares_heads or config.box_weight > 0
        weighted = [s for s in STAGES if config.stage_weights[s - 1] > 0]
        trained = [i for i, name in enumerate(names) if name not in config.frozen]
        self.own_end = NUM_SECTIONS if tail is None else max(trained, default=-1) + 1
        reads_last = self.uses_heads or config.tap_weight > 0
        self.end = NUM_SECTIONS if reads_last else max(weighted, default=0) + 1
        if set(names[: self.end]) <= set(config.frozen) and not (
            self.uses_heads and not {"extras", "head"} <= set(config.frozen)
        ):
            raise ValueError("distillation: every part that the loss depends on is frozen")

    def require_same_maps(self, student: SSDLite, teacher: SSDLite) -> None:
        """Checks that the maps that the heads read can be compared.

        Raises:
            ValueError: ``tap_weight`` is set, but their channels differ; a map of stride 8.
        """
        if student.stride8 is not None or teacher.stride8 is not None:
            raise ValueError(
                "anchors.stride8_scale: detectors with a map of stride 8 are not distilled"
            )
        own, other = (detector.backbone.feature_channels for detector in (student, teacher))
        if self.config.tap_weight > 0 and own != other:
            raise ValueError(
                f"distillation.tap_weight is set, but the heads read maps of {own} channels, the "
                f"teacher's of {other}: set it to 0"
            )

    def names(self, *, forced: bool) -> list[str]:
        """The teacher's outputs that the loss needs.

        Args:
            forced: as `losses` takes it.
        """
        wanted = {part_name(s) for s in STAGES if self.prefix <= s < self.end and self._weight(s)}
        if forced:
            wanted |= {part_name(part - 1) for part in range(max(1, self.prefix), self.end)}
        if self.config.tap_weight > 0:
            wanted |= {TAP, part_name(LAST)}
        if self.compares_heads:
            wanted |= {LOGITS, OFFSETS}
        return sorted(wanted) + ([PREFIX] if self.prefix else [])

    def losses(
        self, student: SSDLite, images: Tensor, expected: dict[str, Tensor], *, forced: bool
    ) -> tuple[dict[str, Tensor], HeadOutputs | None]:
        """All terms, unweighted (`total` applies the weights), and the head outputs if computed.

        Args:
            student: with an IGCV3 backbone.
            images: normalised [B, 3, S, S]; not used where ``prefix`` is not 0.
            expected: the teacher's outputs, by `names`.
            forced: the input of each part is the teacher's features; the heads are not run.
        """
        shared = student.training  # as `MultiBoxLoss` shares its divisor
        x = expected[PREFIX] if self.prefix else images
        x = x.contiguous(memory_format=torch.channels_last)
        terms: dict[str, Tensor] = {}
        taps: list[Tensor] = []
        for part in range(self.prefix, self.end):
            if forced and part > self.prefix:
                x = expected[part_name(part - 1)]
            is_own = self.tail is None or part < self.own_end
            backbone = (student if is_own else cast(SSDLite, self.tail)).backbone
            x, tap = cast(SectionedBackbone, backbone).forward_section(part, x)
            terms |= self._part_terms(part, x, tap, expected, shared=shared)
            taps += [] if tap is None else [tap]
        if forced or not self.uses_heads:
            return terms, None
        detector = student if self.tail is None else self.tail
        outputs: HeadOutputs = detector.head([*taps, x, *detector.extras(x)])
        if self.compares_heads:
            teacher = HeadOutputs(expected[LOGITS], expected[OFFSETS])
            activation = detector.config.head.activation
            divergence = logits_divergence(outputs.logits, teacher.logits, activation)
            terms["score"] = divergence.mean()
            terms["offset"] = offset_error(outputs, teacher, activation, shared=shared)
        return terms, outputs

    def unused_parts(self) -> list[str]:
        """Trained parts without a gradient in some of the steps."""
        names = DISTILLATION_PARTS[:NUM_SECTIONS]
        used = set(names[: min(self.end, self.own_end)])
        if self.uses_heads and self.tail is None:
            used |= {"extras", "head"}
        if self.config.teacher_forcing_steps > 0:  # then only a part's own terms reach it
            used &= {names[s] for s in STAGES if self._weight(s)} | (
                {names[LAST]} if self.config.tap_weight > 0 else set()
            )
        frozen = self.config.frozen
        return [name for name in DISTILLATION_PARTS if name not in used and name not in frozen]

    def _part_terms(
        self, part: int, x: Tensor, tap: Tensor | None, expected: dict[str, Tensor], *, shared: bool
    ) -> dict[str, Tensor]:
        terms = {}
        if part in STAGES and self._weight(part):
            name = part_name(part)
            own = self.maps[name](x, expected[name]) if name in self.maps else x
            terms[f"stage{part}"] = unexplained_variance(own, expected[name], shared=shared)
        if self.config.tap_weight > 0:
            if tap is not None:
                terms["tap0"] = unexplained_variance(tap, expected[TAP], shared=shared)
            if part == LAST:
                last = expected[part_name(LAST)]
                terms["tap1"] = unexplained_variance(x, last, shared=shared)
        return terms

    def total(self, terms: dict[str, Tensor]) -> Tensor:
        """The weighted sum."""
        return torch.stack([self._term_weight(name) * term for name, term in terms.items()]).sum()

    def _weight(self, stage: int) -> float:
        return self.config.stage_weights[stage - 1]

    def _term_weight(self, name: str) -> float:
        if name.startswith("stage"):
            return self._weight(int(name.removeprefix("stage")))
        if name.startswith("tap"):
            return self.config.tap_weight
        if name in ("classification", "box"):
            return self.config.box_weight
        return self.config.score_weight if name == "score" else self.config.offset_weight
