"""8-bit OpenVINO graphs by NNCF, which corrects biases by itself.

Ranges of activations are those that all calibration images span, as for ONNX.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from igcv3det.export.calibration import CalibrationSet
from igcv3det.runtime.sessions import import_extra

if TYPE_CHECKING:
    import openvino


def quantize_openvino(network: openvino.Model, calibration: CalibrationSet) -> openvino.Model:
    """The network with 8-bit convolutions, weights rounded per output channel."""
    os.environ.setdefault("NNCF_CI", "1")  # else NNCF reports its use to its makers
    nncf = import_extra("nncf", "int8 for OpenVINO")
    ranges = import_extra("nncf.quantization.range_estimator", "int8 for OpenVINO")
    nncf.set_log_level(logging.ERROR)
    quantized: openvino.Model = nncf.quantize(
        network,
        nncf.Dataset(calibration),
        subset_size=len(calibration),
        # Zero points where values are not centred, as between the blocks of a network
        preset=nncf.QuantizationPreset.MIXED,
        advanced_parameters=nncf.AdvancedQuantizationParameters(
            activations_range_estimator_params=ranges.RangeEstimatorParametersSet.MINMAX
        ),
    )
    return quantized
