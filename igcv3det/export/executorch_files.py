"""Detectors as ExecuTorch's ``.pte`` for XNNPACK.

The description is what a second method of the program returns: ExecuTorch stores such constants
for what a program says about itself.
"""

from __future__ import annotations

import dataclasses
import json
import logging

import torch
from torch import nn

from igcv3det.atomic_files import atomic_write
from igcv3det.description import DESCRIPTION
from igcv3det.export.bias_correction import correct_biases
from igcv3det.export.calibration import CalibrationSet
from igcv3det.export.job import ExportJob
from igcv3det.export.network import NetworkAndDecoding, description_of
from igcv3det.export.tracing import quiet, silenced
from igcv3det.runtime.session import import_extra

PACKAGES: tuple[str, ...] = ("executorch", "torchao")
_PARTITIONER = "executorch.backends.xnnpack.partition.xnnpack_partitioner"
_SHARE = 0.05  # of each image in the moving mean of the ranges
_QUANTIZER = "executorch.backends.xnnpack.quantizer.xnnpack_quantizer"


def write(job: ExportJob) -> None:
    """Writes the file; see `igcv3det.export.job.Writer`."""
    with silenced(), quiet("executorch", "torchao", level=logging.ERROR):
        model = NetworkAndDecoding(job.detector, job.variant or "executorch")
        example = model.example()
        if job.calibration is not None:
            correct_biases(model.network, job.calibration)
            model.network = _quantized(model.network, example, job.calibration)
        description = json.dumps(description_of(job.detector, job.spec))
        content = convert(model, example, {DESCRIPTION: description})
    atomic_write(job.path, content)


def convert(model: nn.Module, example: torch.Tensor, constants: dict[str, str]) -> bytes:
    """A module of one input as a program that XNNPACK computes.

    Args:
        model: in float32, or quantised.
        example: of the shape that the program takes.
        constants: texts by the names of the methods that return them.

    Raises:
        ImportError: ExecuTorch is not installed.
    """
    with silenced(), quiet("executorch", "torchao", level=logging.ERROR):
        exir = import_extra("executorch.exir", "conversion", "executorch")
        partitioner = import_extra(_PARTITIONER, "conversion", "executorch").XnnpackPartitioner()
        program = exir.to_edge_transform_and_lower(
            torch.export.export(model, (example,)),
            partitioner=[partitioner],
            constant_methods=constants,
        ).to_executorch()
    return bytes(program.buffer)


def _quantized(network: nn.Module, example: torch.Tensor, calibration: CalibrationSet) -> nn.Module:
    """The network with 8-bit convolutions, weights per output channel, by XNNPACK's quantiser."""
    pt2e = import_extra("torchao.quantization.pt2e", "int8 for ExecuTorch", "executorch")
    quantize = import_extra(f"{pt2e.__name__}.quantize_pt2e", "int8 for ExecuTorch", "executorch")
    xnnpack = import_extra(_QUANTIZER, "int8 for ExecuTorch", "executorch")
    config = xnnpack.get_symmetric_quantization_config(is_per_channel=True)
    # Mean ranges, as in ONNX files; the histograms that it takes otherwise need seconds an image
    observer = pt2e.MovingAverageMinMaxObserver.with_args(averaging_constant=_SHARE, eps=2**-12)
    activation = dataclasses.replace(config.input_activation, observer_or_fake_quant_ctr=observer)
    config = dataclasses.replace(config, input_activation=activation, output_activation=activation)
    quantizer = xnnpack.XNNPACKQuantizer().set_global(config)
    # The joined outputs would share one range
    quantizer.set_filter_function(lambda node: node.target != torch.ops.aten.cat.default)
    prepared = quantize.prepare_pt2e(torch.export.export(network, (example,)).module(), quantizer)
    with torch.no_grad():
        for image in calibration:
            prepared(torch.from_numpy(image))
    quantized: nn.Module = quantize.convert_pt2e(prepared)
    return quantized
