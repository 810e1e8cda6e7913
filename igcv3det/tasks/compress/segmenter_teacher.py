"""Segmenters as a search takes them."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, cast, get_args

import torch
from torch import Tensor, nn

from igcv3det.fastpath.deploy import Variant, deploy_blocks
from igcv3det.measure.targets import Backend
from igcv3det.tasks.compress.candidates import (
    SHARES,
    Candidate,
    block_candidates,
    rounded,
    with_original,
)
from igcv3det.tasks.compress.design import Design, backbone_design
from igcv3det.tasks.compress.parts import Part
from igcv3det.tasks.compress.segmenter_parts import (
    COARSE,
    FINE,
    CoarsePart,
    build_segmenter,
    explicit_segmenter,
    logits_of,
    split_segmenter,
)
from igcv3det.tasks.compress.segmenter_start import start_coarse
from igcv3det.tasks.compress.teacher import Metrics, Pixels, Teacher, Values
from igcv3det.tasks.divergence import logits_divergence, softmax_direction
from igcv3det.tasks.segment.checkpoint import load_segmenter, save_segmenter
from igcv3det.tasks.segment.exported import LOGITS, FullLogits
from igcv3det.tasks.segment.inputs import InputTransform
from igcv3det.tasks.segment.masks import ClassLabels
from igcv3det.tasks.segment.network import Segmenter


class SegmenterTeacher(Teacher):
    """A segmenter.

    Args:
        segmenter: with listed blocks (`segmenter_parts.explicit_segmenter`).
        classes: names and labels.
    """

    kind = "segmenter"
    divergence_name = "the classes of all cells of the logits' map"
    backends: ClassVar[Sequence[str]] = get_args(Backend)
    network: Segmenter

    def __init__(self, segmenter: Segmenter, classes: ClassLabels) -> None:
        self.network, self.classes = segmenter, classes
        config = segmenter.config
        self.design = backbone_design(config.backbone)
        self.size = config.image_size
        assert config.backbone.blocks is not None
        self.blocks = config.backbone.blocks
        self.outputs = (COARSE, FINE) if config.head == "lraspp" else (COARSE,)
        self._transform = InputTransform(config)

    @classmethod
    def load(cls, checkpoint: str) -> SegmenterTeacher:
        """Reads a segmenter.

        Raises:
            FileNotFoundError, ValueError: from `load_segmenter`.
        """
        segmenter, classes = load_segmenter(checkpoint)
        return cls(explicit_segmenter(segmenter), classes)

    def build(self, design: Design) -> Segmenter:
        """See `Teacher.build`."""
        return build_segmenter(design, self.network)

    def split(self, network: nn.Module, design: Design) -> dict[str, Part]:
        """See `Teacher.split`."""
        return split_segmenter(cast(Segmenter, network), self.network.config, design)

    def candidates(self, grouped_stages: tuple[int, ...] = ()) -> dict[str, list[Candidate]]:
        """Of all blocks, and of the last 1x1 in front of Lite R-ASPP."""
        config = self.network.config
        found = block_candidates(config.backbone, grouped_stages)
        last = self.design["last"]
        widths = {share: rounded(last * share) for share in SHARES}
        narrower = [
            (f"channels {share:g}", {"last": width})
            for share, width in widths.items()
            if width < last and config.head == "lraspp" and self.design["last_groups"] == 1
        ]
        found["last"] = with_original("last", narrower)
        if FINE in self.outputs:
            found[FINE] = with_original(FINE, [])
        return found

    def start_part(self, part: Part, original: Part, inputs: Tensor, metrics: Metrics) -> None:
        """See `Teacher.start_part`."""
        start_coarse(cast(CoarsePart, part), cast(CoarsePart, original), inputs, metrics)

    def normalize(self, image: Pixels) -> Tensor:
        """See `Teacher.normalize`."""
        return self._transform.normalize(image)

    def divergence(self, own: Values, teacher: Values) -> Tensor:
        """Kullback-Leibler divergence of the classes, summed over the cells of the logits' map."""
        return logits_divergence(self._rows(own), self._rows(teacher), "softmax")

    def fisher_probe(self, found: Values, generator: torch.Generator) -> Tensor:
        """See `Teacher.fisher_probe`."""
        rows = self._rows(found)
        return (rows * softmax_direction(rows.detach(), generator)).sum()

    def _rows(self, found: Values) -> Tensor:
        """Logits [B, H W, K]."""
        kept = {name: found[name] for name in self.outputs}
        return logits_of(kept).flatten(2).transpose(1, 2)

    def final_command(
        self, file: Path, unchanged: Sequence[str], images: str, image_count: int
    ) -> str:
        """See `Teacher.final_command`."""
        del unchanged, images, image_count
        return f"igcv3det train DATA --task segment --weights {shlex.quote(str(file))}"

    def deploy(self, network: nn.Module, variant: Variant) -> Segmenter:
        """See `Teacher.deploy`."""
        return deploy_blocks(cast(Segmenter, network), variant)

    def whole(self, network: nn.Module, design: Design) -> tuple[nn.Module, tuple[str, ...]]:
        """What a file of `export` computes: logits of the input's size."""
        del design
        return FullLogits(cast(Segmenter, network)), (LOGITS,)

    def neighbours(self, position: str) -> list[str]:
        """See `Teacher.neighbours`."""
        if position == FINE:
            return [FINE]
        names = [name for name in self.parts() if name != FINE]
        own = names.index(position)
        return names[max(0, own - 1) : own + 2]

    def save(self, network: nn.Module, path: Path, source: str) -> None:
        """See `Teacher.save`."""
        save_segmenter(cast(Segmenter, network), self.classes, path, {"source": source})
