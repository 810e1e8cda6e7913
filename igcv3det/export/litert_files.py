"""Detectors as LiteRT's ``.tflite``, converted by litert-torch.

ai-edge-quantizer makes their weights 16 bits wide, or weights and activations 8.

The description is a member of a ZIP archive behind the flatbuffer, which is where TensorFlow Lite's
metadata tools put associated files: runtimes read the flatbuffer only.
"""

from __future__ import annotations

import inspect
import json
import tempfile
import zipfile
from pathlib import Path

import torch
from torch import nn

from igcv3det.atomic_files import replacing
from igcv3det.export.bias_correction import correct_biases
from igcv3det.export.calibration import CalibrationSet
from igcv3det.export.job import ExportJob
from igcv3det.export.network import NetworkAndDecoding, description_of
from igcv3det.export.tracing import silenced
from igcv3det.runtime.export_spec import INPUT
from igcv3det.runtime.litert_session import MEMBER, SIGNATURE
from igcv3det.runtime.session import import_extra

PACKAGES: tuple[str, ...] = ("litert_torch", "ai_edge_litert", "ai_edge_quantizer")


def write(job: ExportJob) -> None:
    """Writes the file; see `igcv3det.export.job.Writer`."""
    model = NetworkAndDecoding(job.detector, job.variant or "litert")
    if job.calibration is not None:
        correct_biases(model.network, job.calibration)
    with tempfile.TemporaryDirectory() as folder:
        converted = Path(folder) / "model.tflite"
        convert(model, model.example(), converted)
        if job.calibration is not None:
            content = _quantized(converted, job.calibration)
        elif job.spec.precision == "fp16":
            content = _with_half_weights(converted)
        else:
            content = converted.read_bytes()
    with replacing(job.path) as partial:
        partial.write_bytes(content)
        with zipfile.ZipFile(partial, "a") as archive:
            archive.writestr(MEMBER, json.dumps(description_of(job.detector, job.spec)))


def convert(model: nn.Module, example: torch.Tensor, path: Path) -> None:
    """Writes a module of one input in float32, without a description.

    Raises:
        ImportError: litert-torch is not installed.
    """
    litert_torch = import_extra("litert_torch", path, "litert")
    (name,) = inspect.signature(model.forward).parameters  # the input's in the file too
    with silenced():
        litert_torch.convert(model, (), {name: example}).export(str(path))


def _with_half_weights(model: Path) -> bytes:
    """The weights of convolutions in float16; runtimes widen them when they load the file."""
    quantizer = import_extra("ai_edge_quantizer.quantizer", "fp16 for LiteRT", "litert")
    types = import_extra("ai_edge_quantizer.qtyping", "fp16 for LiteRT", "litert")
    names = types.TFLOperationName
    half = types.TensorQuantizationConfig(num_bits=16, dtype=types.TensorDataType.FLOAT)
    config = types.OpQuantizationConfig(
        weight_tensor_config=half,
        compute_precision=types.ComputePrecision.FLOAT,
        explicit_dequantize=True,
    )
    with silenced():
        own = quantizer.Quantizer(str(model))
        for name in (names.CONV_2D, names.DEPTHWISE_CONV_2D):
            own.update_quantization_recipe(".*", name, config, "float_casting")
        result = own.quantize(enable_progress_report=False)
    return bytes(result.quantized_model)


def _quantized(model: Path, calibration: CalibrationSet) -> bytes:
    """8-bit convolutions and additions; decoding and scores stay in float32.

    Weights are quantised per output channel. XNNPACK adds 8-bit products in 32 bits, so unlike in
    ONNX files all 8 bits are correct on every processor.
    """
    quantizer = import_extra("ai_edge_quantizer.quantizer", "int8 for LiteRT", "litert")
    operators = import_extra("ai_edge_quantizer.qtyping", "int8 for LiteRT", "litert")
    names = operators.TFLOperationName
    with silenced():
        own = quantizer.Quantizer(str(model))
        for name in (names.CONV_2D, names.DEPTHWISE_CONV_2D, names.ADD):
            own.add_static_config(".*", name, 8, 8)  # bits of activations and of weights
        inputs = [{INPUT: image} for image in calibration]
        ranges = own.calibrate({SIGNATURE: inputs}, num_threads=1)
        result = own.quantize(ranges, enable_progress_report=False)
    return bytes(result.quantized_model)
