"""What every runtime's session offers, and the import of optional packages."""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from numpy.typing import NDArray

Array = NDArray[Any]
WEIGHTS = "weights_sha256"
"""Key, in a description, of the checksum of the ``.bin`` beside the graph."""


@dataclass(frozen=True)
class Port:
    """An input or output of a graph.

    Attributes:
        name: of the tensor.
        dtype: its type, as NumPy names it.
        shape: None for a dynamic dimension.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]


class Session(Protocol):
    """A graph ready to run, in any number of threads."""

    @property
    def inputs(self) -> Sequence[Port]:
        """The graph's inputs."""

    @property
    def outputs(self) -> Sequence[Port]:
        """The graph's outputs."""

    @property
    def description(self) -> str | None:
        """The text under ``DESCRIPTION`` in the file's metadata."""

    def run(self, array: Array) -> list[Array]:
        """The outputs, in order, for the graph's only input."""


def import_extra(name: str, purpose: object, extra: str = "export") -> ModuleType:
    """Imports a package of an extra of ``setup.cfg``.

    Raises:
        ImportError: it is not installed; the message says how to get it.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ImportError(
            f"{purpose}: needs {error.name}; install it with: pip install 'igcv3det[{extra}]'"
        ) from error


def check_weights(description: str | None, path: Path) -> None:
    """Compares the ``.bin`` beside a graph with the checksum in the graph's description, if any.

    Raises:
        ValueError: it holds other weights, with which the graph would compute nonsense.
    """
    try:
        expected = json.loads(description or "{}").get(WEIGHTS)
    except (json.JSONDecodeError, AttributeError):
        return  # refused with the file's name when the description is parsed
    weights = path.with_suffix(".bin")
    if expected is not None and expected != hashlib.sha256(weights.read_bytes()).hexdigest():
        raise ValueError(f"{weights}: holds other weights than {path.name} was written with")


def first_line(error: Exception) -> str:
    """The first line of a message, without the source locations that OpenVINO begins with."""
    lines = [line.strip() for line in str(error).splitlines()]
    messages = (line for line in lines if line and not line.startswith("Exception from"))
    return next(messages, type(error).__name__)
