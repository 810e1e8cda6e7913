"""Detectors as a search takes them."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from igcv3det.checkpoint import load_detector, save_detector
from igcv3det.config_files import find_config
from igcv3det.detector import SSDLite, at_input_size
from igcv3det.export_formats import RUNTIMES
from igcv3det.fastpath.block_variants import Block
from igcv3det.fastpath.deploy import Variant, deploy
from igcv3det.models.ssdlite import prediction_rows
from igcv3det.preprocess import Preprocess
from igcv3det.structures import HeadOutputs
from igcv3det.tasks.compress.candidates import Candidate
from igcv3det.tasks.compress.design import Design, build, design_of, explicit_detector
from igcv3det.tasks.compress.detector_candidates import find_candidates
from igcv3det.tasks.compress.detector_parts import (
    ExtraPart,
    LastPart,
    PredictionPart,
    head_outputs,
    split_parts,
)
from igcv3det.tasks.compress.detector_start import start_last, start_prediction
from igcv3det.tasks.compress.parts import TAP, Chain, Part
from igcv3det.tasks.compress.start import start_block
from igcv3det.tasks.compress.teacher import Metrics, Pixels, Size, Teacher, Values
from igcv3det.tasks.divergence import fisher_direction, logits_divergence, output_divergence
from igcv3det.yaml_files import dump_inline, read_yaml

_FINAL = "distill/compressed.yaml"


class DetectorTeacher(Teacher):
    """A detector.

    Args:
        detector: with listed blocks (`design.explicit_detector`).
        checkpoint: of which it is, for messages.
    """

    kind = "detector"
    divergence_name = "scores and offsets"
    backends: ClassVar[Sequence[str]] = ("torch", *RUNTIMES)
    network: SSDLite

    def __init__(self, detector: SSDLite, checkpoint: str = "") -> None:
        self.network, self.checkpoint = detector, checkpoint
        config = detector.config
        self.design = design_of(config)
        self.size = (config.image_size, config.image_size)
        assert config.backbone.blocks is not None
        self.blocks = config.backbone.blocks
        levels = range(len(self.network.head.classification))
        self.outputs = tuple(f"{kind}{n}" for kind in ("logits", "offsets") for n in levels)
        self._activation = config.head.activation
        self._preprocess = Preprocess(config.preprocess, config.image_size)

    @classmethod
    def load(cls, checkpoint: str) -> DetectorTeacher:
        """Reads a detector.

        Raises:
            FileNotFoundError, ValueError: from `load_detector`; a map of stride 8.
        """
        detector = load_detector(checkpoint)
        if detector.config.anchors.stride8_scale is not None:
            raise ValueError(
                f"{checkpoint}: compress takes no detector with a map of stride 8 "
                "(anchors.stride8_scale)"
            )
        return cls(explicit_detector(detector), checkpoint)

    def build(self, design: Design) -> SSDLite:
        """See `Teacher.build`."""
        return build(design, self.network)

    def at_size(self, network: nn.Module, size: Size) -> SSDLite:
        """See `Teacher.at_size`."""
        detector = cast(SSDLite, network)
        return detector if size == self.size else at_input_size(detector, size[0])

    def split(self, network: nn.Module, design: Design) -> dict[str, Part]:
        """See `Teacher.split`."""
        return split_parts(cast(SSDLite, network), design)

    def candidates(self, grouped_stages: tuple[int, ...] = ()) -> dict[str, list[Candidate]]:
        """See `Teacher.candidates`."""
        return find_candidates(self.network.config, grouped_stages)

    def start_part(self, part: Part, original: Part, inputs: Tensor, metrics: Metrics) -> None:
        """See `Teacher.start_part`."""
        if isinstance(part, ExtraPart):
            own, source = (cast(Block, p.layer) for p in (part, cast(ExtraPart, original)))
            start_block(own, source, inputs, metrics[part.outputs[0]])
        elif isinstance(part, PredictionPart):
            start_prediction(part, cast(PredictionPart, original), inputs, metrics)
        else:
            start_last(cast(LastPart, part), cast(LastPart, original), inputs, metrics)

    def normalize(self, image: Pixels) -> Tensor:
        """See `Teacher.normalize`."""
        return self._preprocess.normalize(image)

    def divergence(self, own: Values, teacher: Values) -> Tensor:
        """See `igcv3det.tasks.divergence.output_divergence`."""
        outputs = self._head_outputs(own), self._head_outputs(teacher)
        return output_divergence(*outputs, self._activation)

    def _head_outputs(self, found: Values) -> HeadOutputs:
        kept = {name: found[name] for name in self.outputs}
        return head_outputs(kept, self.network.head.columns)

    def fisher_probe(self, found: Values, generator: torch.Generator) -> Tensor:
        """See `Teacher.fisher_probe`."""
        outputs = self._head_outputs(found)
        direction = fisher_direction(outputs, self._activation, generator)
        return (outputs.logits * direction.logits).sum() + (
            outputs.offsets * direction.offsets
        ).sum()

    def output_loss(self, name: str, own: Tensor, teacher: Tensor) -> Tensor | None:
        """That of class scores."""
        if not name.startswith("logits"):
            return None
        rows = [prediction_rows(x, self.network.head.columns) for x in (own, teacher)]
        return logits_divergence(rows[0], rows[1], self._activation).mean()

    def final_command(
        self, file: Path, unchanged: Sequence[str], images: str, image_count: int
    ) -> str:
        """See `Teacher.final_command`."""
        words = ["igcv3det", "distill", "--config", _FINAL, "--model.teacher", self.checkpoint]
        words += ["--model.weights", str(file), "--data.folders", dump_inline([images])]
        data, side = read_yaml(find_config(_FINAL))["data"], self.size[0]
        if side != data["side"]:
            words += ["--data.side", str(side), "--data.crop.size", str(side)]
        if image_count < data["held_out"] + data["batch_size"]:
            words += ["--data.held_out", str(image_count // 5)]
        if unchanged:
            words += ["--model.distillation.frozen", dump_inline(list(unchanged))]
        return shlex.join(words)

    def deploy(self, network: nn.Module, variant: Variant) -> SSDLite:
        """See `Teacher.deploy`."""
        return deploy(cast(SSDLite, network), variant)

    def whole(self, network: nn.Module, design: Design) -> tuple[nn.Module, tuple[str, ...]]:
        """All parts, without the transposition of their outputs."""
        chain = Chain(self.split(network, design))
        return chain, chain.writes

    def neighbours(self, position: str) -> list[str]:
        """See `Teacher.neighbours`."""
        parts = self.parts()
        names = list(parts)
        own, end = names.index(position), names.index("last")
        tap = next(name for name, part in parts.items() if TAP in part.outputs)
        if position == "head0":
            return [tap, "head0"]
        if own >= end:
            return [name for name in names[end - 1 :] if name != "head0"]
        around = names[max(0, own - 1) : own + 2]
        return [*around, "head0"] if tap in around else around

    def save(self, network: nn.Module, path: Path, source: str) -> None:
        """See `Teacher.save`."""
        save_detector(cast(SSDLite, network), path, {"source": source})
