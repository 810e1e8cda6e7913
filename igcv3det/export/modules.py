"""Modules without a description in the file of a runtime, to time them there."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor, nn

from igcv3det.export.assemble import read_openvino, save_openvino
from igcv3det.export.calibration import Array
from igcv3det.export.executorch_files import convert as convert_for_executorch
from igcv3det.export.litert_files import convert as convert_for_litert
from igcv3det.export.ncnn_files import convert as convert_for_ncnn
from igcv3det.export.network import fix_padding
from igcv3det.export.onnx_quantization import quantize_onnx
from igcv3det.export.openvino_quantization import quantize_openvino
from igcv3det.export.tracing import trace_onnx
from igcv3det.export_formats import INT8_PARTS, format_of
from igcv3det.runtime.export_spec import INPUT
from igcv3det.runtime.session import import_extra


def write_module(
    module: nn.Module,
    example: Tensor,
    outputs: tuple[str, ...],
    path: Path,
    calibration: Sequence[Array] | None = None,
) -> None:
    """Writes a module; `igcv3det.runtime.sessions.open_session` opens it.

    Args:
        module: of one input, in evaluation mode.
        example: [1, C, H, W], the only shape that the file takes.
        outputs: names, where the format keeps them.
        path: its ending chooses the format, which is one that can run here.
        calibration: inputs, for int8 instead of float32, in the formats of
            `igcv3det.export_formats.INT8_PARTS`.

    Raises:
        ImportError: a package of the format's extra is missing.
        ValueError: another ending, int8 in another format, or a layer that the format cannot
            express.
    """
    module = copy.deepcopy(module)
    fix_padding(module, example)
    name = format_of(path).name
    if calibration is not None and name not in INT8_PARTS:
        raise ValueError(f"{path}: modules are written in int8 as {' or '.join(INT8_PARTS)} only")
    if name == "ncnn":
        layers, content = convert_for_ncnn(module, example, path)
        path.write_text("\n".join([*layers, ""]), encoding="utf-8")
        path.with_suffix(".bin").write_bytes(content)
    elif name == "litert":
        convert_for_litert(module, example, path)
    elif name == "executorch":
        path.write_bytes(convert_for_executorch(module, example, {}))
    elif name == "openvino":
        network = read_openvino(trace_onnx(module, {INPUT: example}, outputs))
        if calibration is not None:
            network = quantize_openvino(network, calibration)
        save_openvino(network, path, "")
    else:
        model = trace_onnx(module, {INPUT: example}, outputs)
        if calibration is not None:
            model = quantize_onnx(model, calibration)
        import_extra("onnx", path).save(model, path)
