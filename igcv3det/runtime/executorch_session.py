"""ExecuTorch behind the interface of a session."""

from __future__ import annotations

import threading
import warnings
from pathlib import Path
from typing import Any

import torch

from igcv3det.description import DESCRIPTION
from igcv3det.runtime.session import Array, Port, first_line, import_extra

METHOD = "forward"
_INPUT, _OUTPUTS = "images", ("boxes", "scores")  # a program has no names
_LIBRARY = "executorch.extension.pybindings.portable_lib"
_TYPES = {6: "float32"}  # ExecuTorch's number of the type


class ExecuTorchSession:
    """A program of ExecuTorch.

    Args:
        path: the ``.pte``.
        threads: of XNNPACK, for all programs of the process; None leaves the number to it.

    Raises:
        ImportError: ExecuTorch is not installed.
        ValueError: a file that cannot be read.
    """

    def __init__(self, path: Path, threads: int | None) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its interface may change, it says
            runtime = import_extra("executorch.runtime", path, "executorch").Runtime
            library = import_extra(_LIBRARY, path, "executorch")
        if threads is not None:
            library._unsafe_reset_threadpool(threads)
        try:
            # The content: from a path the program would be read again for each method
            self._program = runtime.get().load_program(path.read_bytes())
            names = self._program.method_names
            method = self._program.load_method(METHOD) if METHOD in names else None
        except RuntimeError as error:
            raise ValueError(f"{path}: ExecuTorch cannot read it: {first_line(error)}") from error
        self.description: str | None = None
        if DESCRIPTION in names:
            (self.description,) = self._program.load_method(DESCRIPTION).execute([])
        if method is None:
            raise ValueError(f"{path}: has no method {METHOD!r}; export it again")
        self._of_thread = threading.local()
        self._of_thread.method = method
        meta = method.metadata
        self.inputs = [_port(_INPUT, meta.input_tensor_meta(0))]
        self.outputs = [
            _port(name, meta.output_tensor_meta(index))
            for index, name in zip(range(meta.num_outputs()), _OUTPUTS, strict=False)
        ]

    def run(self, array: Array) -> list[Array]:
        """The outputs for one image [1, 3, S, S]."""
        # A method serves one caller at a time, so each thread has its own
        method = getattr(self._of_thread, "method", None)
        if method is None:
            method = self._of_thread.method = self._program.load_method(METHOD)
        outputs = method.execute([torch.from_numpy(array)])
        # Copied: the method writes its next outputs to the same memory
        return [output.numpy().copy() for output in outputs]


def _port(name: str, meta: Any) -> Port:  # noqa: ANN401
    dtype = _TYPES.get(int(meta.dtype()), str(meta.dtype()))
    return Port(name, dtype, tuple(meta.sizes()))
