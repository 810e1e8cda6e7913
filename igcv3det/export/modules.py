"""Modules without a description in the file of a runtime, to time them there."""

from __future__ import annotations

import copy
from pathlib import Path

from torch import Tensor, nn

from igcv3det.export.assemble import read_openvino, save_openvino
from igcv3det.export.executorch_files import convert as convert_for_executorch
from igcv3det.export.litert_files import convert as convert_for_litert
from igcv3det.export.ncnn_files import convert as convert_for_ncnn
from igcv3det.export.network import fix_padding
from igcv3det.export.tracing import trace_onnx
from igcv3det.export_formats import format_of
from igcv3det.runtime.export_spec import INPUT
from igcv3det.runtime.session import import_extra


def write_module(module: nn.Module, example: Tensor, outputs: tuple[str, ...], path: Path) -> None:
    """Writes a module in float32; `igcv3det.runtime.sessions.open_session` opens it.

    Args:
        module: of one input, in evaluation mode.
        example: [1, C, H, W], the only shape that the file takes.
        outputs: names, where the format keeps them.
        path: its ending chooses the format, which is one that can run here.

    Raises:
        ImportError: a package of the format's extra is missing.
        ValueError: another ending, or a layer that the format cannot express.
    """
    module = copy.deepcopy(module)
    fix_padding(module, example)
    name = format_of(path).name
    if name == "ncnn":
        layers, content = convert_for_ncnn(module, example, path)
        path.write_text("\n".join([*layers, ""]), encoding="utf-8")
        path.with_suffix(".bin").write_bytes(content)
    elif name == "litert":
        convert_for_litert(module, example, path)
    elif name == "executorch":
        path.write_bytes(convert_for_executorch(module, example, {}))
    elif name == "openvino":
        model = trace_onnx(module, {INPUT: example}, outputs)
        save_openvino(read_openvino(model), path, "")
    else:
        import_extra("onnx", path).save(trace_onnx(module, {INPUT: example}, outputs), path)
