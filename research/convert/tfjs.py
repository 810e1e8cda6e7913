"""Reads TensorFlow.js graph models with NumPy alone.

Such a model is a folder. ``model.json`` has the graph (a GraphDef as JSON) and a manifest of the
constants, whose values are stored one after another, little-endian, in the binary shards of their
group.

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
        name: name, unique in the graph.
        op: TensorFlow's name of the operation.
        inputs: names of the input nodes; ":1" after a name is that node's second output.
        attributes: attributes as in the JSON, each in a mapping with its type ({"f": 0.001}).
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    attributes: dict[str, Any]

    def text(self, attribute: str) -> str:
        """A string attribute, which the JSON stores as bytes or as text."""
        value = self.attributes.get(attribute, {}).get("s", "")
        return value if isinstance(value, str) else bytes(value).decode()

    def integers(self, attribute: str) -> tuple[int, ...]:
        """A list of integers, which the JSON stores as strings."""
        return tuple(
            int(i) for i in self.attributes.get(attribute, {}).get("list", {}).get("i", ())
        )

    def number(self, attribute: str) -> float:
        """A float attribute; 0 if it is absent, since the JSON may omit zeros."""
        return float(self.attributes.get(attribute, {}).get("f", 0.0))


@dataclass(frozen=True)
class GraphModel:
    """A graph and the values of its constants.

    Attributes:
        path: path of ``model.json``, for messages.
        nodes: nodes by name, in the file's order.
        weights: constants by name of the node, in TensorFlow's layouts.
    """

    path: Path
    nodes: dict[str, Node]
    weights: dict[str, Array]


def read_graph_model(folder: Path) -> GraphModel:
    """Reads ``model.json`` and the shards beside it.

    Raises:
        FileNotFoundError: ``model.json`` or a shard is missing.
        ValueError: the JSON is no graph model, the shards have more or fewer bytes than the
            manifest describes, a tensor is quantized or of an unsupported type, or graph and
            manifest have different constants.
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
    """The tensors of one group of the manifest, which are consecutive in its shards."""
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
            f"{path}: the shards have {len(raw)} bytes, the manifest describes {start}"
        )
    return tensors
