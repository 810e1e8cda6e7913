"""8-bit OpenVINO graphs by NNCF, which corrects biases by itself.

The range of an activation goes from the smallest to the largest value of all calibration images,
unlike in the ONNX files, which take the mean of the images' ranges. Weights take 7 of the 8 bits by
default, for the reason given in `igcv3det.export.onnx_quantization`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from igcv3det.export.calibration import Array, CalibrationSet, WeightBits
from igcv3det.export.tracing import quiet, silenced
from igcv3det.runtime.session import import_extra

if TYPE_CHECKING:
    import openvino


def quantize_openvino(
    network: openvino.Model,
    calibration: CalibrationSet | Sequence[Array],
    weight_bits: WeightBits = 7,
) -> openvino.Model:
    """The network with 8-bit convolutions, weights quantised per output channel.

    Args:
        network: with batch normalisation folded.
        calibration: inputs of the network.
        weight_bits: 8 is finer, for processors with VNNI only.
    """
    os.environ.setdefault("NNCF_CI", "1")  # without it NNCF sends usage statistics
    nncf = import_extra("nncf", "int8 for OpenVINO")
    ranges = import_extra("nncf.quantization.range_estimator", "int8 for OpenVINO")
    overflow = nncf.OverflowFix
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
