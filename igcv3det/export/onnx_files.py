"""Detectors as ONNX files."""

from __future__ import annotations

import json

from igcv3det.export.assemble import join_onnx, save_onnx
from igcv3det.export.job import ExportJob
from igcv3det.export.network import description_of
from igcv3det.export.onnx_quantization import INT8_VARIANT, quantize_onnx
from igcv3det.export.subgraphs import NETWORK, make_subgraphs
from igcv3det.fastpath.deploy import Variant

PACKAGES: tuple[str, ...] = ("onnx", "onnxscript")


def write(job: ExportJob) -> None:
    """Writes the file; see `igcv3det.export.job.Writer`."""
    fastest: Variant = INT8_VARIANT if job.calibration else "onnxruntime"
    subgraphs = make_subgraphs(job.detector, job.spec, job.variant or fastest)
    if job.calibration is not None:
        quantized = quantize_onnx(subgraphs[NETWORK].model, job.calibration, job.weight_bits)
        subgraphs[NETWORK] = subgraphs[NETWORK]._replace(model=quantized)
    model = join_onnx(list(subgraphs.values()), job.spec.output_names)
    save_onnx(model, job.path, json.dumps(description_of(job.detector, job.spec)))
