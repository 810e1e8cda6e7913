"""Detectors as ONNX files and as OpenVINO's XML with its BIN.

A file is put together from parts: preprocessing (if asked for), the network, its decoding to boxes
and scores, and class-wise suppression (if asked for). Only the network is ever stored in half
precision or quantised; everything around it computes in float32. PyTorch traces network and
decoding, so their arithmetic is written once; the other parts are in `igcv3det.export.graphs`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from igcv3det.checkpoint import describe_detector
from igcv3det.detection.box_coder import BoxCoder
from igcv3det.detection.postprocess import class_scores
from igcv3det.detector import SSDLite
from igcv3det.export.assemble import (
    Part,
    join_onnx,
    join_openvino,
    read_openvino,
    save_onnx,
    save_openvino,
)
from igcv3det.export.calibration import CalibrationSet
from igcv3det.export.graphs import (
    nms_graph,
    preprocessing_graph,
    rescaling_graph,
)
from igcv3det.export.onnx_quantization import quantize_onnx
from igcv3det.export.openvino_quantization import quantize_openvino
from igcv3det.export.tracing import trace_onnx
from igcv3det.fastpath.deploy import Variant, deploy
from igcv3det.runtime.export_spec import (
    CANDIDATE_OUTPUTS,
    EXPORT,
    INPUT,
    NMS_OUTPUTS,
    ExportSpec,
)
from igcv3det.runtime.sessions import import_extra
from igcv3det.structures import HeadOutputs

if TYPE_CHECKING:
    import onnx

NETWORK = "network"
HEADS = ("logits", "offsets")
_TRACED_BATCH = 2  # a batch of one would be taken for a constant


def export_detector(
    detector: SSDLite,
    path: str | Path,
    spec: ExportSpec | None = None,
    calibration: CalibrationSet | None = None,
) -> None:
    """Writes a detector for another runtime, with its description inside.

    Args:
        detector: in any state; it is exported as it evaluates, and stays as it is.
        path: ends in ``.onnx``, or in ``.xml``: then a ``.bin`` is written beside it.
        spec: precision, and whether preprocessing and suppression go inside.
        calibration: images; for int8, and for that only.

    Raises:
        ImportError: a package of the extra ``export`` is missing.
        ValueError: another ending, or int8 without images.
    """
    path, spec = Path(path), spec or ExportSpec()
    if path.suffix not in (".onnx", ".xml"):
        raise ValueError(f"{path}: an exported detector is an .onnx or .xml file")
    if (spec.precision == "int8") != (calibration is not None):
        raise ValueError(f"{path}: int8 and images to calibrate on go together")
    for package in ("onnx", "onnxscript", *(["openvino"] if path.suffix == ".xml" else [])):
        import_extra(package, path)
    description = json.dumps(description_of(detector, spec))
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".onnx":
        # In int8 multiplying zeros costs less than the copies between groups
        parts = _parts(detector, spec, "dense" if calibration else "onnxruntime")
        if calibration is not None:
            quantized = quantize_onnx(parts[NETWORK].model, calibration)
            parts[NETWORK] = parts[NETWORK]._replace(model=quantized)
        model = join_onnx(list(parts.values()), spec.output_names)
        save_onnx(model, path, description)
    else:
        parts = _parts(detector, spec, "openvino")
        models = {name: read_openvino(part.model) for name, part in parts.items()}
        if calibration is not None:
            models[NETWORK] = quantize_openvino(models[NETWORK], calibration)
        pieces = [(models[name], part.writes) for name, part in parts.items()]
        save_openvino(join_openvino(pieces, spec.output_names), path, description)


def description_of(detector: SSDLite, spec: ExportSpec) -> dict[str, Any]:
    """What an exported file says of itself: a checkpoint's description and the export's spec."""
    return {**describe_detector(detector), EXPORT: spec.as_description(detector.config)}


class _Network(nn.Module):
    """A detector in the stored precision with float32 input and outputs."""

    def __init__(self, detector: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.detector = detector.to(dtype)
        self.dtype = dtype
        for part in self.detector.modules():
            if isinstance(part, nn.ReLU6):
                part.inplace = False  # in place it takes the tracer twice as long

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        outputs: HeadOutputs = self.detector(images.to(self.dtype))
        return outputs.logits.float(), outputs.offsets.float()


class _Decoding(nn.Module):
    """Logits and offsets to boxes, clipped, and scores."""

    def __init__(self, detector: SSDLite) -> None:
        super().__init__()
        self.config = detector.config
        self.coder = BoxCoder(detector.config.variances)
        self.anchors: Tensor
        self.register_buffer("anchors", detector.anchors.cpu())

    def forward(self, logits: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
        boxes = self.coder.decode(offsets, self.anchors)
        scores = class_scores(logits, self.config.head.activation)
        return boxes.clamp(min=0, max=self.config.image_size), scores


def _parts(detector: SSDLite, spec: ExportSpec, form: Variant) -> dict[str, Part]:
    """All parts by name, in the order in which they run."""
    config, anchors = detector.config, len(detector.anchors)
    batch = 1 if spec.nms else None
    parts = [
        Part(NETWORK, _trace_network(deploy(detector, form), spec), HEADS),
        Part("decoding", _trace_decoding(detector, batch), CANDIDATE_OUTPUTS),
    ]
    if spec.preprocessing:
        before = preprocessing_graph(config.preprocess, config.image_size, batch)
        parts.insert(0, Part("preprocessing", before, (INPUT, "sides")))
        parts.append(Part("rescaling", rescaling_graph(anchors, batch), ("boxes",)))
    if spec.nms:
        after = nms_graph(config.postprocess, anchors, config.num_classes)
        parts.append(Part("suppression", after, NMS_OUTPUTS))
    return {part.name: part for part in parts}


def _trace_network(detector: SSDLite, spec: ExportSpec) -> onnx.ModelProto:
    size = detector.config.image_size
    dtype = torch.float16 if spec.precision == "fp16" else torch.float32
    images = torch.zeros(1 if spec.nms else _TRACED_BATCH, 3, size, size)
    return trace_onnx(_Network(detector.cpu(), dtype), {INPUT: images}, HEADS)


def _trace_decoding(detector: SSDLite, batch: int | None) -> onnx.ModelProto:
    shape = (batch or _TRACED_BATCH, len(detector.anchors))
    heads = (torch.zeros(*shape, detector.config.num_classes + 1), torch.zeros(*shape, 4))
    return trace_onnx(_Decoding(detector), dict(zip(HEADS, heads, strict=True)), CANDIDATE_OUTPUTS)
