"""Segmenters as ONNX files and as OpenVINO's XML with its BIN, in float32.

The graph takes normalised images float32 [B, 3, H, W] and returns logits float32 [B, K, H, W]. The
file carries the checkpoint's description, and the export's under ``export``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from igcv3det.description import parse_description
from igcv3det.export.assemble import (
    Subgraph,
    join_onnx,
    join_openvino,
    read_openvino,
    save_onnx,
    save_openvino,
)
from igcv3det.export.calibration import CalibrationSet, WeightBits
from igcv3det.export.onnx_quantization import INT8_VARIANT, quantize_onnx
from igcv3det.export.openvino_quantization import quantize_openvino
from igcv3det.export.tracing import trace_onnx
from igcv3det.fastpath.deploy import Variant, deploy_blocks
from igcv3det.runtime.export_spec import EXPORT, INPUT, Precision
from igcv3det.runtime.session import Port, Session, import_extra
from igcv3det.runtime.sessions import open_session
from igcv3det.tasks.segment.checkpoint import describe_segmenter, read_segmenter_description
from igcv3det.tasks.segment.masks import ClassLabels
from igcv3det.tasks.segment.network import Segmenter, resize_logits
from igcv3det.weight_files import existing_file

LOGITS = "logits"
_TRACED_BATCH = 2  # the tracer would take a batch of one for a constant


class ExportedSegmenter:
    """A segmenter that another runtime computes; any number of threads may call it.

    Args:
        session: the opened graph.
        path: the file, for messages.

    Attributes:
        config: input size, mean and deviation.
        precision: of the file.
        classes: names and labels.

    Raises:
        ValueError: the file describes no segmenter, or one that the graph contradicts.
    """

    def __init__(self, session: Session, path: Path) -> None:
        description = parse_description(session.description, path)
        self.config, self.classes = read_segmenter_description(description, path)
        self.precision: Precision = (description.get(EXPORT) or {}).get("precision", "fp32")
        height, width = self.config.image_size
        shapes = {
            "input": (None, 3, height, width),
            "output": (None, self.config.num_classes, height, width),
        }
        for kind, ports in (("input", session.inputs), ("output", session.outputs)):
            name = INPUT if kind == "input" else LOGITS
            wanted = [Port(name, "float32", shapes[kind])]
            if list(ports) != wanted:
                raise ValueError(
                    f"{path}: by its description the {kind} is {wanted[0].shape}, but the graph "
                    f"has {[port.shape for port in ports]}; export it again"
                )
        self._session = session

    def coarse_logits(self, images: Tensor) -> Tensor:
        """Logits [B, K, H, W] of normalised images [B, 3, H, W]."""
        (logits,) = self._session.run(images.contiguous().numpy())
        return torch.from_numpy(logits)


def load_exported_segmenter(path: str | Path, threads: int | None = None) -> ExportedSegmenter:
    """Opens a file of `export_segmenter`.

    Raises:
        FileNotFoundError: there is no such file, or the ``.bin`` of an ``.xml`` is missing.
        ImportError: the runtime is not installed.
        ValueError: the file is unreadable, no segmenter, or contradicts itself.
    """
    path = existing_file(path)
    return ExportedSegmenter(open_session(path, threads), path)


def export_segmenter(
    segmenter: Segmenter,
    classes: ClassLabels,
    path: str | Path,
    precision: Precision = "fp32",
    calibration: CalibrationSet | None = None,
    weight_bits: WeightBits = 7,
) -> None:
    """Writes a segmenter for another runtime, with its description inside.

    Args:
        segmenter: on any device; it is left unchanged.
        classes: names and labels.
        path: ends in ``.onnx``, or in ``.xml``: then a ``.bin`` is written beside it.
        precision: of the stored weights; in int8 also of the convolutions. Input and logits are
            float32.
        calibration: images; for int8, and for that only.
        weight_bits: of int8 weights, see `igcv3det.export.onnx_quantization`.

    Raises:
        FileExistsError: the ``.bin`` beside a new ``.xml`` belongs to something else.
        ImportError: a package of the extra ``export`` is missing.
        OSError: the file cannot be written.
        ValueError: another suffix, or int8 without images.
    """
    path = Path(path)
    if path.suffix not in (".onnx", ".xml"):
        raise ValueError(f"{path}: an exported segmenter is an .onnx or .xml file")
    if (precision == "int8") != (calibration is not None):
        raise ValueError(f"{path}: int8 and images to calibrate on go together")
    is_openvino = path.suffix == ".xml"
    weights = path.with_suffix(".bin")
    if is_openvino and weights.exists() and not path.exists():
        raise FileExistsError(f"{weights}: exists without {path.name} and would be overwritten")
    for package in ("onnx", "onnxscript", *(["openvino"] if is_openvino else [])):
        import_extra(package, path)
    path.parent.mkdir(parents=True, exist_ok=True)
    description = json.dumps(_description(segmenter, classes, precision))
    if is_openvino:
        subgraph = _traced(segmenter, precision, "openvino")
        graph = read_openvino(subgraph.model)
        if calibration is not None:
            graph = quantize_openvino(graph, calibration, weight_bits)
        save_openvino(join_openvino([(graph, subgraph.writes)], (LOGITS,)), path, description)
    else:
        variant: Variant = "onnxruntime" if calibration is None else INT8_VARIANT
        subgraph = _traced(segmenter, precision, variant)
        if calibration is not None:
            quantized = quantize_onnx(subgraph.model, calibration, weight_bits)
            subgraph = subgraph._replace(model=quantized)
        save_onnx(join_onnx([subgraph], (LOGITS,)), path, description)


class FullLogits(nn.Module):
    """What a file computes: a segmenter in the stored precision with float32 images and logits.

    Args:
        segmenter: deployed; it is changed.
        dtype: of the weights.
    """

    def __init__(self, segmenter: Segmenter, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.segmenter, self.dtype = segmenter.to(dtype), dtype
        for module in segmenter.modules():
            if isinstance(module, nn.ReLU6 | nn.ReLU):
                module.inplace = False  # in place it takes the tracer twice as long

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, K, H, W] of normalised images [B, 3, H, W]."""
        logits = self.segmenter.coarse_logits(images.to(self.dtype)).float()
        return resize_logits(logits, self.segmenter.config.image_size)


def _description(
    segmenter: Segmenter, classes: ClassLabels, precision: Precision
) -> dict[str, Any]:
    shape = [None, 3, *segmenter.config.image_size]
    port = {"name": INPUT, "dtype": "float32", "layout": "BCHW", "shape": shape, "colours": "RGB"}
    export = {"precision": precision, "preprocessing": False, "input": port, "outputs": [LOGITS]}
    return {**describe_segmenter(segmenter.config, classes), EXPORT: export}


def _traced(segmenter: Segmenter, precision: Precision, variant: Variant) -> Subgraph:
    dtype = torch.float16 if precision == "fp16" else torch.float32
    network = FullLogits(deploy_blocks(segmenter, variant).cpu(), dtype)
    images = torch.zeros(_TRACED_BATCH, 3, *segmenter.config.image_size)
    return Subgraph("network", trace_onnx(network, {INPUT: images}, (LOGITS,)), (LOGITS,))
