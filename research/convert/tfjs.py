"""Reads TensorFlow.js graph models with NumPy alone.

Such a model is a folder: ``model.json`` holds the graph (a GraphDef as JSON) and a manifest of the
constants, whose values follow one another, little-endian and without gaps, through the raw shards
of their group.

Source: the tfjs-converter's "Format of the converted model", https://github.com/tensorflow/tfjs.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_DTYPES = {"float32": "<f4", "int32": "<i4", "bool": "|u1"}


@dataclass(frozen=True)
class Node:
    """One operation of a graph.

    Attributes:
        name: unique in the graph.
        op: TensorFlow's name of the operation.
        inputs: names of the nodes it takes; ":1" after a name means that node's second output.
        attributes: as the JSON has them, each wrapped in its kind ({"f": 0.001}).
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    attributes: dict[str, Any]

    def text(self, attribute: str) -> str:
        """A string attribute; the JSON has the bytes as numbers or as text."""
        value = self.attributes.get(attribute, {}).get("s", "")
        return value if isinstance(value, str) else bytes(value).decode()

    def integers(self, attribute: str) -> tuple[int, ...]:
        """An attribute that lists integers; the JSON has 64-bit numbers as strings."""
        return tuple(
            int(i) for i in self.attributes.get(attribute, {}).get("list", {}).get("i", ())
        )

    def number(self, attribute: str) -> float:
        """A float attribute; zero, which the JSON may leave out, if absent."""
        return float(self.attributes.get(attribute, {}).get("f", 0.0))


@dataclass(frozen=True)
class GraphModel:
    """A graph and the values of its constants.

    Attributes:
        path: of ``model.json``, for messages.
        nodes: by name, in the file's order.
        weights: the constants by node name, in TensorFlow's layouts.
    """

    path: Path
    nodes: dict[str, Node]
    weights: dict[str, Array]


def read_graph_model(folder: Path) -> GraphModel:
    """Reads ``model.json`` and the shards beside it.

    Raises:
        FileNotFoundError: the manifest or a shard is missing.
        ValueError: the JSON is no graph model, a shard holds more or fewer bytes than the manifest
            says, a tensor is quantized or of an unknown type, or a constant and its node disagree.
    """
    path = folder / "model.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no such file; expected a TensorFlow.js graph model's folder"
        )
    try:
        model = json.loads(path.read_bytes())
        nodes = {n["name"]: _node(n) for n in model["modelTopology"]["node"]}
        groups = [(group["paths"], group["weights"]) for group in model["weightsManifest"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: not a TensorFlow.js graph model ({error!r})") from error
    weights: dict[str, Array] = {}
    for shards, entries in groups:
        raw = b"".join(_shard(folder / shard) for shard in shards)
        weights.update(_split(raw, entries, path))
    constants = {name for name, node in nodes.items() if node.op == "Const"}
    if constants != set(weights):
        raise ValueError(
            f"{path}: constants without values {sorted(constants - set(weights))}, "
            f"values without constants {sorted(set(weights) - constants)}"
        )
    return GraphModel(path, nodes, weights)


def _node(entry: dict[str, Any]) -> Node:
    return Node(entry["name"], entry["op"], tuple(entry.get("input", ())), entry.get("attr", {}))


def _shard(path: Path) -> bytes:
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no such file; the manifest in model.json lists this shard"
        )
    return path.read_bytes()


def _split(raw: bytes, entries: list[dict[str, Any]], path: Path) -> dict[str, Array]:
    """The tensors of one manifest group, which lie end to end in its shards."""
    tensors: dict[str, Array] = {}
    start = 0
    for entry in entries:
        name, dtype, shape = entry["name"], entry["dtype"], tuple(entry["shape"])
        if "quantization" in entry or dtype not in _DTYPES:
            raise ValueError(
                f"{path}: weight {name!r} is {entry.get('quantization', {}).get('dtype', dtype)}, "
                f"only unquantized {sorted(_DTYPES)} can be read; convert without quantization"
            )
        count = math.prod(shape)
        end = start + count * np.dtype(_DTYPES[dtype]).itemsize
        if end > len(raw):
            raise ValueError(f"{path}: the shards end at byte {len(raw)}, inside weight {name!r}")
        values = np.frombuffer(raw, _DTYPES[dtype], count, start)
        tensors[name] = values.reshape(shape).astype(dtype)  # a copy: writable, native byte order
        start = end
    if start != len(raw):
        raise ValueError(
            f"{path}: the shards hold {len(raw)} bytes, the manifest describes {start}"
        )
    return tensors
