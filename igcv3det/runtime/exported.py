"""Detectors in exported files, each by its runtime, on the CPU.

An exported file carries a checkpoint's description, with the spec of the export added. Both are
compared with the graph when the file is opened: a file whose description contradicts its size,
batch, classes, preprocessing or NMS is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from igcv3det.config import DetectorConfig, PostprocessConfig
from igcv3det.description import parse_description, read_description
from igcv3det.detection.postprocess import select_detections
from igcv3det.export_formats import FORMATS
from igcv3det.preprocess import Image, Preprocess
from igcv3det.runtime.export_spec import EXPORT, ExportSpec
from igcv3det.runtime.session import Port, Session
from igcv3det.runtime.sessions import open_session
from igcv3det.structures import Detections


class ExportedDetector:
    """A detector that another runtime computes; any number of threads may call it.

    Args:
        session: the opened graph.
        path: the file, for messages.

    Attributes:
        config: input size, preprocessing, thresholds.
        categories: what the labels mean.
        spec: which steps the graph includes.

    Raises:
        ValueError: the file has no description, or one that the graph contradicts.
    """

    def __init__(self, session: Session, path: Path) -> None:
        description = parse_description(session.description, path)
        if not isinstance(description, dict):
            raise ValueError(
                f"{path}: has no description; only files written by igcv3det export can run"
            )
        self.config, self.categories = read_description(description, path)
        self.spec = _read_spec(description, self.config, path)
        _check_ports(session, self.spec, self.config, path)
        self.path = path
        self._session = session
        self._preprocess = Preprocess(self.config.preprocess, self.config.image_size)

    def __call__(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """The graph's outputs for its input, both described by `ExportSpec`.

        A graph for single images runs once for each image of a batch.
        """
        if self.spec.single_image and len(inputs) > 1:
            parts = [self(image[None]) for image in inputs]
            return tuple(torch.cat(rows) for rows in zip(*parts, strict=True))
        return tuple(torch.from_numpy(array) for array in self._session.run(inputs.numpy()))

    def example_input(self, batch: int = 1) -> Tensor:
        """A random input to time the graph with."""
        size = self.config.image_size
        noise = torch.randint(0, 256, (batch, size, size, 3), dtype=torch.uint8)
        if self.spec.preprocessing:
            return noise
        return torch.stack([self._preprocess(image.numpy()) for image in noise])

    def preprocess(self, image: Image) -> Tensor:
        """[H, W, 3] uint8 RGB, any strides, to what `detect` takes."""
        if not self.spec.preprocessing:
            return self._preprocess(image)
        # PyTorch takes no negative strides (``bgr[:, :, ::-1]``) and warns of read-only arrays
        return torch.from_numpy(np.require(image, requirements=["C", "W"]))

    def detect(
        self,
        inputs: Sequence[Tensor],
        original_sizes: Sequence[tuple[int, int]],
        config: PostprocessConfig,
        labels: Sequence[Tensor | None] | None = None,
    ) -> list[Detections]:
        """Detects the objects of preprocessed images.

        Args:
            inputs: results of `preprocess`: images [H, W, 3] uint8 if the graph preprocesses,
                else [3, S, S] float32.
            original_sizes: (height, width) in pixels of each image before that.
            config: thresholds. If the graph includes NMS, only a higher score threshold and fewer
                detections than the file's own have an effect.
            labels: of the classes that are wanted in each image; None takes all. If the graph
                includes NMS, they are chosen from the detections that it gives.

        Returns:
            One for each image, boxes in its pixels, with categories.

        Raises:
            ValueError: a label outside the file's categories.
        """
        if self.spec.preprocessing or self.spec.nms:
            outputs = [self(image[None]) for image in inputs]
        else:
            boxes, scores = self(torch.stack(list(inputs)))
            outputs = list(zip(boxes[:, None], scores[:, None], strict=True))
        detections = self._from_nms if self.spec.nms else self._from_candidates
        wanted = labels or [None] * len(original_sizes)
        each = zip(outputs, original_sizes, wanted, strict=True)
        return [detections(own, size, config, classes) for own, size, classes in each]

    def _from_candidates(
        self,
        outputs: tuple[Tensor, ...],
        size: tuple[int, int],
        config: PostprocessConfig,
        wanted: Tensor | None,
    ) -> Detections:
        """Detections from boxes [1, A, 4] and scores [1, A, K]."""
        boxes, scores = outputs[0][0], outputs[1][0]
        side = self.config.image_size
        if self.spec.preprocessing:
            boxes = boxes / _sides(size) * side
        found = select_detections(boxes, scores, size, side, config, wanted)
        return Detections(found.boxes, found.scores, found.labels, self.categories)

    def _from_nms(
        self,
        outputs: tuple[Tensor, ...],
        size: tuple[int, int],
        config: PostprocessConfig,
        wanted: Tensor | None,
    ) -> Detections:
        """Detections from boxes [N, 4], scores [N] and labels [N]."""
        boxes, scores, labels = outputs
        if len(labels) and not 1 <= int(labels.min()) <= int(labels.max()) <= len(self.categories):
            raise ValueError(
                f"{self.path}: returned label {int(labels.max())}, but its description names "
                f"{len(self.categories)} categories; export it again"
            )
        if not self.spec.preprocessing:
            boxes = boxes / self.config.image_size * _sides(size)
        is_kept = scores > config.score_threshold
        if wanted is not None:
            is_kept &= torch.isin(labels, wanted)
        keep = torch.nonzero(is_kept)[: config.detections_per_image, 0]
        return Detections(boxes[keep], scores[keep], labels[keep], self.categories)


def load_exported(
    path: str | Path, threads: int | None = None, *, bf16: bool = False
) -> ExportedDetector:
    """Opens an exported detector.

    Args:
        path: a file of `export_detector`; the ``.bin`` of an ``.xml`` or ``.param`` is beside it.
        threads: of the runtime; None leaves the number to the runtime.
        bf16: lets OpenVINO compute in bfloat16 where the processor can. Without it OpenVINO
            computes in float32, whatever it would choose itself, so that results do not depend on
            the machine.

    Raises:
        FileNotFoundError: there is no such file, or its ``.bin`` is missing.
        ImportError: the runtime is not installed.
        ValueError: the file is unreadable, not from this package, or contradicts itself.
    """
    path = Path(path)
    is_package = path.is_dir() and path.suffix == FORMATS["coreml"].suffix
    if not path.is_file() and not is_package:
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
        nms = values["suppression"]
        is_single = not nms and values["input"]["shape"][0] == 1
        spec = ExportSpec(values["precision"], values["preprocessing"], nms, is_single)
    except (KeyError, IndexError, TypeError) as error:
        raise ValueError(f"{path}: the description's {EXPORT!r} lacks {error}") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    # The spelled-out fields must follow from the first three, or one of them is wrong
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
    for kind, wanted, present in expected:
        if wanted != list(present):
            raise ValueError(
                f"{path}: by its description the {kind} is {_shown(wanted)}, but the graph has "
                f"{_shown(present)}; export it again"
            )


def _shown(ports: Sequence[Port]) -> str:
    return ", ".join(
        f"{port.name} {port.dtype}{['any' if s is None else s for s in port.shape]}"
        for port in ports
    )
