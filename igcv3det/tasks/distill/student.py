"""The student's way through a batch, with the teacher's features beside it."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from igcv3det.detector import SSDLite
from igcv3det.models.igcv3 import TAP_STAGE
from igcv3det.models.sections import NUM_SECTIONS, SectionedBackbone
from igcv3det.structures import HeadOutputs
from igcv3det.tasks.distill.config import DISTILLATION_PARTS, DistillationConfig
from igcv3det.tasks.distill.losses import offset_error, score_divergence, unexplained_variance
from igcv3det.tasks.distill.teacher import (
    LOGITS,
    OFFSETS,
    PREFIX,
    TAP,
    part_name,
)

STAGES = range(1, NUM_SECTIONS - 1)
LAST = NUM_SECTIONS - 1


class DistillationObjective:
    """What is computed of a student in each step, as a configuration wants it.

    Args:
        config: weights and frozen parts.
        maps: a `ChannelMap` for each of the mapped stages, under `part_name`.
        tail: the teacher, frozen, where ``teacher_tail`` is set.

    Attributes:
        prefix: the first so many parts are frozen and come from the reference, at most those
            before the stage of the fine tap.
        own_end: parts from this one on, and the heads, are the tail's if there is one.
        end: parts from this one on are not needed; 9 where all are.
        compares_heads: class scores and offsets are the teacher's to give.
        uses_heads: the heads are run.
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
        self.prefix = min(frozen, TAP_STAGE + 1)  # the fine tap is the student's own business
        self.compares_heads = max(config.score_weight, config.offset_weight) > 0
        self.uses_heads = self.compares_heads or config.box_weight > 0
        weighted = [s for s in STAGES if config.stage_weights[s - 1] > 0]
        learning = [i for i, name in enumerate(names) if name not in config.frozen]
        self.own_end = NUM_SECTIONS if tail is None else max(learning, default=-1) + 1
        reads_last = self.uses_heads or config.tap_weight > 0
        self.end = NUM_SECTIONS if reads_last else max(weighted, default=0) + 1
        if set(names[: self.end]) <= set(config.frozen) and not (
            self.uses_heads and not {"extras", "head"} <= set(config.frozen)
        ):
            raise ValueError("distillation: every part with a weight is frozen, nothing can learn")

    def names(self, *, forced: bool) -> list[str]:
        """The outputs of the reference that the loss needs."""
        wanted = {part_name(s) for s in STAGES if self.prefix <= s < self.end and self._weight(s)}
        if forced:
            wanted |= {part_name(part - 1) for part in range(max(1, self.prefix), self.end)}
        if self.config.tap_weight > 0:
            wanted |= {TAP, part_name(LAST)}
        if self.compares_heads:
            wanted |= {LOGITS, OFFSETS}
        return sorted(wanted) + ([PREFIX] if self.prefix else [])

    def losses(
        self, student: SSDLite, images: Tensor, reference: dict[str, Tensor], *, forced: bool
    ) -> tuple[dict[str, Tensor], HeadOutputs | None]:
        """Every term, unweighted (`total` weighs them), and the heads' outputs if they were run.

        Args:
            student: with an IGCV3 backbone.
            images: normalised [B, 3, S, S]; read only where no part is frozen.
            reference: what `names` asks for.
            forced: feed each part with the teacher's features, and leave the heads out.
        """
        x = reference[PREFIX] if self.prefix else images
        x = x.contiguous(memory_format=torch.channels_last)
        terms: dict[str, Tensor] = {}
        taps: list[Tensor] = []
        tail = self.tail
        for part in range(self.prefix, self.end):
            if forced and part > self.prefix:
                x = reference[part_name(part - 1)]
            detector = student if tail is None or part < self.own_end else tail
            x, tap = cast(SectionedBackbone, detector.backbone).forward_section(part, x)
            if part in STAGES and self._weight(part):
                name = part_name(part)
                own = self.maps[name](x, reference[name]) if name in self.maps else x
                terms[f"stage{part}"] = unexplained_variance(own, reference[name])
            if tap is not None:
                taps.append(tap)
                if self.config.tap_weight > 0:
                    terms["tap0"] = unexplained_variance(tap, reference[TAP])
        if self.end == NUM_SECTIONS and self.config.tap_weight > 0:
            terms["tap1"] = unexplained_variance(x, reference[part_name(LAST)])
        if forced or not self.uses_heads:
            return terms, None
        detector = student if tail is None else tail
        outputs: HeadOutputs = detector.head([*taps, x, *detector.extras(x)])
        if self.compares_heads:
            expected = HeadOutputs(reference[LOGITS], reference[OFFSETS])
            terms["score"] = score_divergence(outputs, expected)
            terms["offset"] = offset_error(outputs, expected)
        return terms, outputs

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
