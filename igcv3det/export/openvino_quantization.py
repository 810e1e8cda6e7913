"""8-bit OpenVINO graphs by NNCF, with the bias correction that it lacks.

NNCF corrects the biases of all convolutions but the grouped ones. The depthwise ones, whose
channels have nine weights each, need it most; theirs are corrected before, as in the ONNX files.

The range of an activation goes from the smallest to the largest value of all calibration images,
unlike in the ONNX files, which take the mean of the images' ranges. Weights take 7 of the 8 bits by
default, for the reason given in `igcv3det.export.onnx_quantization`; depthwise ones always 8.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from igcv3det.export.assemble import simplify
from igcv3det.export.calibration import Array, CalibrationSet, WeightBits, mean_outputs
from igcv3det.export.onnx_quantization import LEVELS, mean_shift
from igcv3det.export.tracing import quiet, silenced
from igcv3det.runtime.session import import_extra
from igcv3det.runtime.sessions import openvino_core

if TYPE_CHECKING:
    import openvino


def quantize_openvino(
    network: openvino.Model,
    calibration: CalibrationSet | Sequence[Array],
    weight_bits: WeightBits = 7,
) -> openvino.Model:
    """The network with 8-bit convolutions, weights quantised per output channel.

    Args:
        network: from `read_openvino`, with batch normalisation folded; it is changed.
        calibration: inputs of the network, iterated twice.
        weight_bits: 8 is finer, for processors with VNNI only.
    """
    os.environ.setdefault("NNCF_CI", "1")  # without it NNCF sends usage statistics
    nncf = import_extra("nncf", "int8 for OpenVINO")
    ranges = import_extra("nncf.quantization.range_estimator", "int8 for OpenVINO")
    overflow = nncf.OverflowFix
    _correct_depthwise_biases(network, calibration)
    # nncf.set_log_level would last, and change all handlers of its logger, also those of the caller
    with quiet("nncf", level=logging.ERROR), silenced():
        quantized: openvino.Model = nncf.quantize(
            network,
            nncf.Dataset(calibration),
            subset_size=len(calibration),
            # Zero points for activations that are not centred on zero, as between blocks
            preset=nncf.QuantizationPreset.MIXED,
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                activations_range_estimator_params=ranges.RangeEstimatorParametersSet.MINMAX,
                overflow_fix=overflow.ENABLE if weight_bits == 7 else overflow.DISABLE,
            ),
        )
    return quantized


def _correct_depthwise_biases(
    network: openvino.Model, calibration: CalibrationSet | Sequence[Array]
) -> None:
    """Subtracts from each bias what 8-bit weights add for the mean input, in place."""
    import openvino

    opset = openvino.opset13
    convs = _depthwise(network)
    for conv, mean_input in zip(convs, _mean_inputs(network, calibration), strict=True):
        weight = conv.input_value(1).get_node().data  # [C, M, 1, h, w]
        shift = mean_shift(weight.reshape(-1, *weight.shape[2:]), mean_input, LEVELS[8])
        readers = conv.output(0).get_target_inputs()
        corrected = opset.add(conv, -shift.reshape(1, -1, 1, 1))
        for reader in readers:
            reader.replace_source_output(corrected.output(0))
    simplify(network)  # joins it with the bias that was there


def _mean_inputs(
    network: openvino.Model, calibration: CalibrationSet | Sequence[Array]
) -> list[Array]:
    """[C] mean of what each depthwise convolution reads, over images and positions."""
    import openvino

    opset = openvino.opset13
    probe = network.clone()
    means = [opset.reduce_mean(conv.input_value(0), [0, 2, 3]) for conv in _depthwise(probe)]
    if not means:
        return []
    compiled = openvino_core("int8 for OpenVINO").compile_model(
        openvino.Model([opset.result(mean) for mean in means], probe.get_parameters()),
        "CPU",
        {"INFERENCE_PRECISION_HINT": "f32"},
    )
    return mean_outputs(lambda array: compiled(array).values(), calibration)


def _depthwise(network: openvino.Model) -> list[openvino.Node]:
    nodes = network.get_ordered_ops()
    grouped = [node for node in nodes if node.get_type_name() == "GroupConvolution"]
    return [node for node in grouped if node.input_value(1).get_shape()[2] == 1]
