"""LiteRT (formerly TensorFlow Lite) behind the interface of a session."""

from __future__ import annotations

import threading
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from igcv3det.description import DESCRIPTION
from igcv3det.runtime.session import Array, Port, first_line, import_extra

SIGNATURE = "serving_default"
"""Name of the graph in the file."""
MEMBER = f"{DESCRIPTION}.json"
"""The description, in the archive behind the flatbuffer."""
_OUTPUTS = {"output_0": "boxes", "output_1": "scores"}  # litert-torch numbers them


class LiteRTSession:
    """A graph of LiteRT, computed by XNNPACK.

    Args:
        path: the ``.tflite``.
        threads: of LiteRT; None leaves the number to it.

    Raises:
        ImportError: LiteRT is not installed.
        ValueError: a file that cannot be read.
    """

    def __init__(self, path: Path, threads: int | None) -> None:
        self._interpreter = import_extra("ai_edge_litert.interpreter", path, "litert").Interpreter
        self._threads = threads
        self._content = path.read_bytes()  # the file may be replaced while it is in use
        self._of_thread = threading.local()
        self.description = _read_description(path)
        try:
            graph = self._graph()
        except (ValueError, RuntimeError) as error:
            raise ValueError(f"{path}: LiteRT cannot read it: {first_line(error)}") from error
        self.inputs = [_port(name, own) for name, own in graph.get_input_details().items()]
        outputs = graph.get_output_details()
        self._outputs = sorted(outputs)
        self.outputs = [_port(_OUTPUTS.get(name, name), outputs[name]) for name in self._outputs]

    def run(self, array: Array) -> list[Array]:
        """The outputs for one image [1, 3, S, S]."""
        found = self._graph()(**{self.inputs[0].name: array})
        return [found[name] for name in self._outputs]  # copies, made by LiteRT

    def _graph(self) -> Any:  # noqa: ANN401
        # An interpreter serves one caller at a time, so each thread has its own
        graph = getattr(self._of_thread, "graph", None)
        if graph is None:
            interpreter = self._interpreter(model_content=self._content, num_threads=self._threads)
            graph = self._of_thread.graph = interpreter.get_signature_runner(SIGNATURE)
        return graph


def _read_description(path: Path) -> str | None:
    if not zipfile.is_zipfile(path):
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.read(MEMBER).decode() if MEMBER in archive.namelist() else None
    except (zipfile.BadZipFile, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: its description cannot be read: {error}") from error


def _port(name: str, details: dict[str, Any]) -> Port:
    shape = tuple(int(side) for side in details["shape_signature"])
    sides = tuple(None if side < 0 else side for side in shape)
    return Port(name, np.dtype(details["dtype"]).name, sides)
