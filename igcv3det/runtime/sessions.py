"""Opens graphs in the runtime of their format, which is imported when a file needs it."""

from __future__ import annotations

import functools
import importlib
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from igcv3det.description import DESCRIPTION
from igcv3det.export_formats import format_of
from igcv3det.runtime.content import format_by_content
from igcv3det.runtime.executorch_session import ExecuTorchSession
from igcv3det.runtime.litert_session import LiteRTSession
from igcv3det.runtime.ncnn_session import NcnnSession
from igcv3det.runtime.session import (
    Array,
    Port,
    Session,
    check_weights,
    first_line,
    import_extra,
)

COREML = "Core ML files run on Apple's systems only; this package writes them and runs none"
"""Why such a file is refused."""
_ERRORS_ONLY = 3  # of ONNX Runtime's log levels
_ONNX_TYPES = {"tensor(float)": "float32", "tensor(uint8)": "uint8", "tensor(int64)": "int64"}


def open_session(path: Path, threads: int | None = None, *, bf16: bool = False) -> Session:
    """Opens a graph; the file's suffix decides the runtime.

    Args:
        path: an existing file of one of `FORMATS`.
        threads: of the runtime; None leaves the number to the runtime.
        bf16: compute in bfloat16; OpenVINO only.

    Raises:
        FileNotFoundError: an ``.xml`` or ``.param`` without its ``.bin``.
        ImportError: the runtime is not installed.
        ValueError: another suffix, or one that the content contradicts, a file that cannot be
            read, ``bf16`` for another runtime than OpenVINO, or fewer than one thread.
    """
    if threads is not None and threads < 1:
        raise ValueError(f"threads must be >= 1, got {threads}")
    name = format_of(path).name
    if name == "coreml":
        raise ValueError(f"{path}: {COREML}")
    content = format_by_content(path)
    if content is not None and content.name != name:
        right = path.with_suffix(content.suffix).name
        raise ValueError(f"{path}: its content is of format {content.name}; rename it to {right}")
    if name == "openvino":
        return _OpenVinoSession(path, threads, bf16)
    if bf16:
        raise ValueError(f"{path}: bfloat16 is a hint that only OpenVINO's .xml files can follow")
    if name == "ncnn":
        return NcnnSession(path, threads)
    if name == "litert":
        return LiteRTSession(path, threads)
    if name == "executorch":
        return ExecuTorchSession(path, threads)
    return _OnnxSession(path, threads)


def openvino_core(purpose: object) -> Any:  # noqa: ANN401
    """The process's only ``openvino.Core``; ``purpose`` as `import_extra` takes it.

    A Core whose CPU plugin is loaded replaces the calling thread's alternate signal stack and puts
    the one before back when it is destroyed. Of two, the first destroyed leaves the second's
    "one before" unmapped, and the next signal with a Python handler (SIGCHLD of a loader's worker)
    ends the process; see docs/research/segfault.md.
    """
    return _only_core(import_extra("openvino", purpose))


@functools.cache
def _only_core(openvino: ModuleType) -> Any:  # noqa: ANN401
    return openvino.Core()


class _OnnxSession:
    def __init__(self, path: Path, threads: int | None) -> None:
        runtime = import_extra("onnxruntime", path)
        errors = importlib.import_module("onnxruntime.capi.onnxruntime_pybind11_state")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        options.log_severity_level = _ERRORS_ONLY
        # Spinning threads would take cores from other sessions and from image decoding
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = runtime.InferenceSession(
                path, options, providers=["CPUExecutionProvider"]
            )
        except (
            errors.Fail,
            errors.InvalidArgument,
            errors.InvalidGraph,
            errors.InvalidProtobuf,
            errors.NotImplemented,
            errors.RuntimeException,
        ) as error:
            reason = first_line(error)
            raise ValueError(f"{path}: ONNX Runtime cannot read it: {reason}") from error
        self.inputs = [_onnx_port(node) for node in self._session.get_inputs()]
        self.outputs = [_onnx_port(node) for node in self._session.get_outputs()]
        metadata = self._session.get_modelmeta().custom_metadata_map
        self.description: str | None = metadata.get(DESCRIPTION)

    def run(self, array: Array) -> list[Array]:
        outputs: list[Array] = self._session.run(None, {self.inputs[0].name: array})
        return outputs


class _OpenVinoSession:
    def __init__(self, path: Path, threads: int | None, bf16: bool) -> None:
        core = openvino_core(path)
        # Without the hint OpenVINO computes in bfloat16 on processors that have it
        options: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32"}
        if threads is not None:
            options["INFERENCE_NUM_THREADS"] = threads
        try:
            model = core.read_model(path)
            known = model.has_rt_info([DESCRIPTION])
            self.description = model.get_rt_info([DESCRIPTION]).astype(str) if known else None
            check_weights(self.description, path)
            self._compiled = core.compile_model(model, "CPU", options)
        except RuntimeError as error:
            weights = path.with_suffix(".bin")
            if format_by_content(path) is not None and not weights.is_file():
                message = f"{weights}: no such file; {path.name} needs these weights"
                raise FileNotFoundError(message) from error
            reason = first_line(error)
            raise ValueError(f"{path}: OpenVINO cannot read it: {reason}") from error
        self.inputs = [_openvino_port(port) for port in model.inputs]
        self.outputs = [_openvino_port(port) for port in model.outputs]
        self._of_thread = threading.local()

    def run(self, array: Array) -> list[Array]:
        # A request serves one caller at a time, so each thread has its own
        request = getattr(self._of_thread, "request", None)
        if request is None:
            request = self._of_thread.request = self._compiled.create_infer_request()
        outputs = request.infer([array], share_inputs=True, share_outputs=True)
        # Copied: the request writes its next outputs to the same memory
        return [np.array(outputs[index]) for index in range(len(self.outputs))]


def _onnx_port(node: Any) -> Port:  # noqa: ANN401
    shape = tuple(side if isinstance(side, int) else None for side in node.shape)
    return Port(node.name, _ONNX_TYPES.get(node.type, node.type), shape)


def _openvino_port(port: Any) -> Port:  # noqa: ANN401
    sides = port.get_partial_shape()
    shape = tuple(None if side.is_dynamic else side.get_length() for side in sides)
    return Port(port.get_any_name(), np.dtype(port.element_type.to_dtype()).name, shape)
