"""Detectors as ONNX files and as OpenVINO's XML with its BIN.

An exported graph consists of subgraphs: preprocessing (optional), the network, its decoding to
boxes and scores, and class-wise NMS (optional). Only the network is stored in half precision or
quantised; everything around it computes in float32. PyTorch traces network and decoding, so their
arithmetic is written once; the other subgraphs are in `igcv3det.export.graphs`.
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
    Subgraph,
    join_onnx,
    join_openvino,
    read_openvino,
    save_onnx,
    save_openvino,
)
from igcv3det.export.calibration import CalibrationSet, WeightBits
from igcv3det.export.graphs import nms_graph, preprocessing_graph, rescaling_graph
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
_TRACED_BATCH = 2  # the tracer would take a batch of one for a constant


def export_detector(
    detector: SSDLite,
    path: str | Path,
    spec: ExportSpec | None = None,
    calibration: CalibrationSet | None = None,
    *,
    weight_bits: WeightBits = 7,
) -> None:
    """Writes a detector for another runtime, with its description inside.

    Args:
        detector: in any mode, on any device; it is exported as in evaluation mode and left
            unchanged.
        path: ends in ``.onnx``, or in ``.xml``: then a ``.bin`` is written beside it.
        spec: precision, and whether the graph includes preprocessing and NMS.
        calibration: images; for int8, and for that only.
        weight_bits: of int8 weights. 7 suits every processor; 8 is finer, but saturates on
            processors with AVX2 and no VNNI (`igcv3det.export.onnx_quantization`).

    Raises:
        FileExistsError: the ``.bin`` beside a new ``.xml`` belongs to something else.
        ImportError: a package of the extra ``export`` is missing.
        OSError: the file cannot be written.
        ValueError: another suffix, or int8 without images.
    """
    path, spec = Path(path), spec or ExportSpec()
    if path.suffix not in (".onnx", ".xml"):
        raise ValueError(f"{path}: an exported detector is an .onnx or .xml file")
    if (spec.precision == "int8") != (calibration is not None):
        raise ValueError(f"{path}: int8 and images to calibrate on go together")
    weights = path.with_suffix(".bin")
    if path.suffix == ".xml" and weights.exists() and not path.exists():
        raise FileExistsError(f"{weights}: exists without {path.name} and would be overwritten")
    for package in ("onnx", "onnxscript", *(["openvino"] if path.suffix == ".xml" else [])):
        import_extra(package, path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write = _write_onnx if path.suffix == ".onnx" else _write_openvino
    write(detector, path, spec, calibration, weight_bits)


def description_of(detector: SSDLite, spec: ExportSpec) -> dict[str, Any]:
    """The description in an exported file: a checkpoint's, and the spec of the export."""
    return {**describe_detector(detector), EXPORT: spec.as_description(detector.config)}


def _write_onnx(
    detector: SSDLite,
    path: Path,
    spec: ExportSpec,
    calibration: CalibrationSet | None,
    weight_bits: WeightBits,
) -> None:
    # In int8, multiplying zeros costs less than the copies between groups
    subgraphs = _subgraphs(detector, spec, "dense" if calibration else "onnxruntime")
    if calibration is not None:
        quantized = quantize_onnx(subgraphs[NETWORK].model, calibration, weight_bits)
        subgraphs[NETWORK] = subgraphs[NETWORK]._replace(model=quantized)
    model = join_onnx(list(subgraphs.values()), spec.output_names)
    save_onnx(model, path, json.dumps(description_of(detector, spec)))


def _write_openvino(
    detector: SSDLite,
    path: Path,
    spec: ExportSpec,
    calibration: CalibrationSet | None,
    weight_bits: WeightBits,
) -> None:
    subgraphs = _subgraphs(detector, spec, "openvino")
    models = {name: read_openvino(subgraph.model) for name, subgraph in subgraphs.items()}
    if calibration is not None:
        models[NETWORK] = quantize_openvino(models[NETWORK], calibration, weight_bits)
    pairs = [(models[name], subgraph.writes) for name, subgraph in subgraphs.items()]
    model = join_openvino(pairs, spec.output_names)
    save_openvino(model, path, json.dumps(description_of(detector, spec)))


class _Network(nn.Module):
    """A detector in the stored precision with float32 input and outputs."""

    def __init__(self, detector: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.detector = detector.to(dtype)
        self.dtype = dtype
        for module in self.detector.modules():
            if isinstance(module, nn.ReLU6):
                module.inplace = False  # in place it takes the tracer twice as long

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        outputs: HeadOutputs = self.detector(images.to(self.dtype))
        return outputs.logits.float(), outputs.offsets.float()


class _Decoding(nn.Module):
    """Logits and offsets to clipped boxes and scores."""

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


def _subgraphs(detector: SSDLite, spec: ExportSpec, variant: Variant) -> dict[str, Subgraph]:
    """All subgraphs by name, in the order in which they run."""
    config, anchors = detector.config, len(detector.anchors)
    batch = 1 if spec.nms else None
    subgraphs = [
        Subgraph(NETWORK, _trace_network(deploy(detector, variant), spec), HEADS),
        Subgraph("decoding", _trace_decoding(detector, batch), CANDIDATE_OUTPUTS),
    ]
    if spec.preprocessing:
        before = preprocessing_graph(config.preprocess, config.image_size, batch)
        subgraphs.insert(0, Subgraph("preprocessing", before, (INPUT, "sides")))
        subgraphs.append(Subgraph("rescaling", rescaling_graph(anchors, batch), ("boxes",)))
    if spec.nms:
        after = nms_graph(config.postprocess, anchors, config.num_classes)
        subgraphs.append(Subgraph("nms", after, NMS_OUTPUTS))
    return {subgraph.name: subgraph for subgraph in subgraphs}


def _trace_network(detector: SSDLite, spec: ExportSpec) -> onnx.ModelProto:
    size = detector.config.image_size
    dtype = torch.float16 if spec.precision == "fp16" else torch.float32
    images = torch.zeros(1 if spec.nms else _TRACED_BATCH, 3, size, size)
    return trace_onnx(_Network(detector.cpu(), dtype), {INPUT: images}, HEADS)


def _trace_decoding(detector: SSDLite, batch: int | None) -> onnx.ModelProto:
    shape = (batch or _TRACED_BATCH, len(detector.anchors))
    heads = (torch.zeros(*shape, detector.config.num_classes + 1), torch.zeros(*shape, 4))
    return trace_onnx(_Decoding(detector), dict(zip(HEADS, heads, strict=True)), CANDIDATE_OUTPUTS)
