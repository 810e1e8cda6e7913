"""8-bit ONNX graphs by ONNX Runtime's quantiser, with the bias correction that it lacks.

Only the network's convolutions and the operators between them are quantised; decoding and scores
are not in the graph given here. Weights are quantised per output channel, activations per tensor
and after ReLU6. The range of an activation is the mean, over the calibration images, of each
image's smallest and largest value: the expansions of IGCV3 have no ReLU6 that would bound them, and
the extremes of one image would coarsen the steps for all.

Weights take 7 of the 8 bits by default. Processors with AVX2 but without VNNI add two products of
an activation (0..255) and a weight in a signed 16-bit register: 2 * 255 * 127 does not fit and
saturates, 2 * 255 * 64 fits.

Quantised weights shift the mean of a convolution's outputs, most of all in depthwise convolutions,
whose channels have nine weights each. The bias compensates, by what quantisation does to the mean
input: Nagel et al., Data-Free Quantization, arXiv:1906.04721, section 4.2, with measured means.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from igcv3det.export.calibration import WeightBits, mean_outputs
from igcv3det.fastpath.deploy import Variant
from igcv3det.runtime.session import import_extra

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

Array = NDArray[np.float32]
INT8_VARIANT: Variant = "dense"
"""The fastest in int8: multiplying zeros costs less than the copies between groups."""
LEVELS: dict[WeightBits, int] = {7: 64, 8: 127}
"""The largest weight of the quantisers, by bits."""
_OPERATORS = ["Conv", "Add", "Clip"]  # without Clip, quantisation would come before ReLU6


def quantize_onnx(
    network: ModelProto, inputs: Iterable[Array], weight_bits: WeightBits = 7
) -> ModelProto:
    """The network with 8-bit convolutions, by QuantizeLinear and DequantizeLinear around them.

    Args:
        network: one input [B, 3, S, S], batch normalisation folded.
        inputs: images as [1, 3, S, S]; iterated twice.
        weight_bits: 8 is finer, for processors with VNNI only.
    """
    quantization = import_extra("onnxruntime.quantization", "int8 for ONNX")
    shape_inference = import_extra("onnxruntime.quantization.shape_inference", "int8 for ONNX")
    onnx = import_extra("onnx", "int8 for ONNX")
    with tempfile.TemporaryDirectory() as folder:
        prepared, result = Path(folder) / "prepared.onnx", Path(folder) / "int8.onnx"
        shape_inference.quant_pre_process(network, prepared)
        model = onnx.load(prepared)
        _correct_biases(model, _mean_inputs(model, inputs), LEVELS[weight_bits])
        quantization.quantize_static(
            model,
            result,
            _reader(quantization, model.graph.input[0].name, inputs),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=_OPERATORS,
            per_channel=True,
            reduce_range=weight_bits == 7,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            extra_options={"CalibMovingAverage": True},  # the mean of the images' ranges
        )
        quantized: ModelProto = onnx.load(result)
    return quantized


def _reader(quantization: Any, name: str, inputs: Iterable[Array]) -> Any:  # noqa: ANN401
    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._inputs: Iterator[Array] = iter(inputs)

        def get_next(self) -> dict[str, Array] | None:
            array = next(self._inputs, None)
            return None if array is None else {name: array}

    return Reader()


def _convolutions(model: ModelProto) -> list[NodeProto]:
    return [node for node in model.graph.node if node.op_type == "Conv"]


def _mean_inputs(model: ModelProto, inputs: Iterable[Array]) -> dict[str, Array]:
    """[C] mean of every tensor that a convolution reads, over images and positions."""
    onnx = import_extra("onnx", "int8 for ONNX")
    runtime = import_extra("onnxruntime", "int8 for ONNX")
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    del probe.graph.output[:]
    axes = onnx.numpy_helper.from_array(np.array([0, 2, 3]), "mean_axes")
    probe.graph.initializer.append(axes)
    read = list(dict.fromkeys(node.input[0] for node in _convolutions(model)))
    for index, name in enumerate(read):
        mean = f"mean_{index}"
        probe.graph.node.append(
            onnx.helper.make_node("ReduceMean", [name, "mean_axes"], [mean], keepdims=0)
        )
        probe.graph.output.append(
            onnx.helper.make_tensor_value_info(mean, onnx.TensorProto.FLOAT, None)
        )
    session = runtime.InferenceSession(
        probe.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    port = model.graph.input[0].name
    means = mean_outputs(lambda array: session.run(None, {port: array}), inputs)
    return dict(zip(read, means, strict=True))


def _correct_biases(model: ModelProto, mean_inputs: dict[str, Array], levels: int) -> None:
    """Subtracts from each bias what quantised weights add for the mean input, in place."""
    onnx = import_extra("onnx", "int8 for ONNX")
    constants = {constant.name: constant for constant in model.graph.initializer}
    for index, node in enumerate(_convolutions(model)):
        weight = onnx.numpy_helper.to_array(constants[node.input[1]])  # [C', C / groups, h, w]
        shift = mean_shift(weight, mean_inputs[node.input[0]], levels)
        bias = -shift
        if len(node.input) > 2:
            bias = onnx.numpy_helper.to_array(constants[node.input[2]]) - shift
        corrected = onnx.numpy_helper.from_array(bias, f"corrected_bias_{index}")
        model.graph.initializer.append(corrected)
        node.input[:] = [*node.input[:2], corrected.name]
    read = {name for node in model.graph.node for name in node.input}
    kept = [constant for constant in model.graph.initializer if constant.name in read]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)


def mean_shift(weight: Array, mean_input: Array, levels: int) -> Array:
    """[C'] change of the mean output when weights are quantised for each channel."""
    step = np.abs(weight).max(axis=(1, 2, 3), keepdims=True) / levels
    step[step == 0] = 1
    change = (np.round(weight / step) * step - weight).sum(axis=(2, 3))  # [C', C / groups]
    groups = len(mean_input) // change.shape[1]
    by_group = change.reshape(groups, -1, change.shape[1])
    shift: Array = np.einsum("goi,gi->go", by_group, mean_input.reshape(groups, -1)).reshape(-1)
    return shift.astype(np.float32)
