"""Detectors in exported files: ONNX by ONNX Runtime, OpenVINO's XML by OpenVINO, both on the CPU.

An exported file says what it is under the same key as a checkpoint, with the spec of the export
added. All of that is compared with the graph itself before an image goes in: a file that is wrong
about its size, batch, classes, preprocessing or suppression is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from igcv3det.config import DetectorConfig, PostprocessConfig
from igcv3det.description import parse_description, read_description
from igcv3det.detection.postprocess import select_detections
from igcv3det.preprocess import Image, Preprocess
from igcv3det.runtime.export_spec import EXPORT, ExportSpec
from igcv3det.runtime.sessions import Port, Session, open_session
from igcv3det.structures import Detections

EXPORTED_SUFFIXES = frozenset({".onnx", ".xml"})


class ExportedDetector:
    """A detector that another runtime computes.

    Args:
        session: the opened graph.
        path: where it is from, for messages.

    Attributes:
        config: input size, preprocessing, thresholds.
        categories: what the labels mean.
        spec: what the graph does by itself.

    Raises:
        ValueError: the file has no description, or one that the graph contradicts.
    """

    def __init__(self, session: Session, path: Path) -> None:
        description = parse_description(session.description, path)
        if not isinstance(description, dict):
            raise ValueError(
                f"{path}: carries no description; only files of tools/export.py can run"
            )
        self.config, self.categories = read_description(description, path)
        self.spec = _read_spec(description, self.config, path)
        _check_ports(session, self.spec, self.config, path)
        self.path = path
        self._session = session
        self._preprocess = Preprocess(self.config.preprocess, self.config.image_size)

    def __call__(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """The graph's own outputs, by `ExportSpec`, for an input of its own kind."""
        return tuple(torch.from_numpy(array) for array in self._session.run(inputs.numpy()))

    def example_input(self, batch: int = 1) -> Tensor:
        """An input of the right kind, to time the graph with: grey noise."""
        size = self.config.image_size
        noise = torch.randint(0, 256, (batch, size, size, 3), dtype=torch.uint8)
        if self.spec.preprocessing:
            return noise
        return torch.stack([self._preprocess(image.numpy()) for image in noise])

    def preprocess(self, image: Image) -> Tensor:
        """[H, W, 3] uint8 RGB to what `detect` takes; the image itself if the graph does it."""
        return torch.from_numpy(image) if self.spec.preprocessing else self._preprocess(image)

    def detect(
        self,
        inputs: Sequence[Tensor],
        original_sizes: Sequence[tuple[int, int]],
        config: PostprocessConfig,
    ) -> list[Detections]:
        """The objects of prepared images.

        Args:
            inputs: results of `preprocess`: images [H, W, 3] uint8 if the graph preprocesses,
                else [3, S, S] float32.
            original_sizes: (height, width) in pixels of each image before that.
            config: thresholds. With suppression inside, only a higher score threshold and a lower
                number of detections than the file's own have an effect.

        Returns:
            One for each image, boxes in its pixels, with categories.

        Raises:
            ValueError: a label that the file's categories do not have.
        """
        if self.spec.preprocessing or self.spec.nms:
            parts = [self(one[None]) for one in inputs]
        else:
            boxes, scores = self(torch.stack(list(inputs)))
            parts = list(zip(boxes[:, None], scores[:, None], strict=True))
        found = self._suppressed if self.spec.nms else self._candidates
        return [found(part, size, config) for part, size in zip(parts, original_sizes, strict=True)]

    def _candidates(
        self, part: tuple[Tensor, ...], size: tuple[int, int], config: PostprocessConfig
    ) -> Detections:
        boxes, scores = part[0][0], part[1][0]
        side = self.config.image_size
        if self.spec.preprocessing:
            boxes = boxes / _sides(size) * side
        found = select_detections(boxes, scores, size, side, config)
        return Detections(found.boxes, found.scores, found.labels, self.categories)

    def _suppressed(
        self, part: tuple[Tensor, ...], size: tuple[int, int], config: PostprocessConfig
    ) -> Detections:
        boxes, scores, labels = part
        if len(labels) and not 1 <= int(labels.min()) <= int(labels.max()) <= len(self.categories):
            raise ValueError(
                f"{self.path}: gave label {int(labels.max())}, but it names "
                f"{len(self.categories)} categories; export it again"
            )
        if not self.spec.preprocessing:
            boxes = boxes / self.config.image_size * _sides(size)
        keep = torch.nonzero(scores > config.score_threshold)[: config.detections_per_image, 0]
        return Detections(boxes[keep], scores[keep], labels[keep], self.categories)


def load_exported(
    path: str | Path, threads: int | None = None, *, bf16: bool = False
) -> ExportedDetector:
    """Opens an exported detector.

    Args:
        path: what `export_detector` wrote, ``*.onnx`` or ``*.xml`` (with its ``.bin`` beside it).
        threads: of the runtime; None leaves it to the runtime.
        bf16: lets OpenVINO compute in bfloat16 where the processor can. Without it computation is
            in float32 even where OpenVINO would choose otherwise, so that figures do not depend
            on the machine.

    Raises:
        FileNotFoundError: there is no such file.
        ImportError: the runtime is not installed.
        ValueError: the file is not readable, not one of ours, or contradicts itself.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    return ExportedDetector(open_session(path, threads, bf16=bf16), path)


def _sides(size: tuple[int, int]) -> Tensor:
    """(width, height, width, height) of a (height, width)."""
    return torch.tensor([size[1], size[0], size[1], size[0]], dtype=torch.float32)


def _read_spec(description: dict[str, Any], config: DetectorConfig, path: Path) -> ExportSpec:
    values = description.get(EXPORT)
    if not isinstance(values, dict):
        raise ValueError(f"{path}: the description lacks {EXPORT!r}")
    try:
        spec = ExportSpec(values["precision"], values["preprocessing"], values["suppression"])
    except KeyError as error:
        raise ValueError(f"{path}: the description's {EXPORT!r} lacks {error}") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    # What is spelled out for readers must follow from the spec, or one of the two is wrong.
    if spec.as_description(config) != values:
        raise ValueError(f"{path}: the description's {EXPORT!r} contradicts itself: {values}")
    return spec


def _check_ports(session: Session, spec: ExportSpec, config: DetectorConfig, path: Path) -> None:
    shapes = [port.shape for port in session.outputs]
    anchors = shapes[0][1] if not spec.nms and len(shapes[0]) == 3 else None
    expected = [
        ("input", [spec.input_port(config.image_size)], session.inputs),
        ("output", spec.output_ports(config.num_classes, anchors), session.outputs),
    ]
    for side, wanted, present in expected:
        if wanted != list(present):
            raise ValueError(
                f"{path}: by its description the {side} is {_shown(wanted)}, but the graph has "
                f"{_shown(present)}; export it again"
            )


def _shown(ports: Sequence[Port]) -> str:
    return ", ".join(
        f"{port.name} {port.dtype}{['any' if s is None else s for s in port.shape]}"
        for port in ports
    )
