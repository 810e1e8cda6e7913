"""Detectors as OpenVINO's XML with its BIN."""

from __future__ import annotations

import json

from igcv3det.export.assemble import join_openvino, read_openvino, save_openvino
from igcv3det.export.job import ExportJob
from igcv3det.export.network import description_of
from igcv3det.export.openvino_quantization import quantize_openvino
from igcv3det.export.subgraphs import NETWORK, make_subgraphs

PACKAGES: tuple[str, ...] = ("onnx", "onnxscript", "openvino")


def write(job: ExportJob) -> None:
    """Writes both files; see `igcv3det.export.job.Writer`."""
    subgraphs = make_subgraphs(job.detector, job.spec, job.variant or "openvino")
    models = {name: read_openvino(subgraph.model) for name, subgraph in subgraphs.items()}
    if job.calibration is not None:
        models[NETWORK] = quantize_openvino(models[NETWORK], job.calibration, job.weight_bits)
    pairs = [(models[name], subgraph.writes) for name, subgraph in subgraphs.items()]
    model = join_openvino(pairs, job.spec.output_names)
    save_openvino(model, job.path, json.dumps(description_of(job.detector, job.spec)))
