"""Joins the subgraphs of an exported graph and writes the file, for ONNX and for OpenVINO.

Subgraphs are connected by tensor names: each input reads what was last written under its name.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from igcv3det.atomic_files import atomic_write, replacing
from igcv3det.description import DESCRIPTION
from igcv3det.runtime.session import WEIGHTS, first_line
from igcv3det.runtime.sessions import openvino_core
from igcv3det.version import __version__

if TYPE_CHECKING:
    import onnx
    import openvino


class Subgraph(NamedTuple):
    """One step of an exported graph.

    Attributes:
        name: prefix of the names of its inner tensors and nodes.
        model: its inputs are named after what they read.
        writes: names under which its outputs are read by others, in order.
    """

    name: str
    model: onnx.ModelProto
    writes: tuple[str, ...]


def join_onnx(subgraphs: Sequence[Subgraph], outputs: Sequence[str]) -> onnx.ModelProto:
    """Joins subgraphs into one model.

    Args:
        subgraphs: in the order in which they run; the first one's input becomes the model's.
        outputs: names, of those that the subgraphs write, that become the model's outputs.
    """
    import onnx

    (first_input,) = subgraphs[0].model.graph.input
    written = {first_input.name: first_input.name}
    joined = onnx.GraphProto(name="igcv3det", input=[first_input])
    ports: dict[str, onnx.ValueInfoProto] = {}
    for subgraph in subgraphs:
        graph = subgraph.model.graph
        names = {port.name: written[port.name] for port in graph.input}
        _append(joined, graph, names, subgraph.name)
        for port, name in zip(graph.output, subgraph.writes, strict=True):
            written[name], ports[name] = names[port.name], port
    public = {written[name]: name for name in outputs}
    for node in joined.node:
        node.input[:] = [public.get(name, name) for name in node.input]
        node.output[:] = [public.get(name, name) for name in node.output]
    for name in outputs:
        joined.output.add().CopyFrom(ports[name])
        joined.output[-1].name = name
    model = onnx.helper.make_model(
        joined,
        producer_name="igcv3det",
        producer_version=__version__,
        ir_version=subgraphs[-1].model.ir_version,
        opset_imports=[_operator_set(subgraphs)],
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def save_onnx(model: onnx.ModelProto, path: Path, description: str) -> None:
    """Writes a model with its description.

    Raises:
        OSError: the file cannot be written; an earlier one is then left as it was.
    """
    import onnx

    onnx.helper.set_model_props(model, {DESCRIPTION: description})
    atomic_write(path, model.SerializeToString())


def read_openvino(model: onnx.ModelProto) -> openvino.Model:
    """An ONNX model, read by OpenVINO and simplified."""
    core = openvino_core("OpenVINO's form")
    read: openvino.Model = core.read_model(model=model.SerializeToString())
    simplify(read)
    return read


def simplify(model: openvino.Model) -> None:
    """What OpenVINO's converter does to a model that was read, in place.

    As read from ONNX, biases and the weights of grouped convolutions are results of reshapes, and
    ReLU6 is two operators: NNCF would not correct such biases and would quantise such weights anew
    for every image. The converter itself (`openvino.convert_model`) sends usage statistics.
    """
    from openvino._offline_transformations import apply_moc_transformations

    apply_moc_transformations(model, cf=True)  # constants are folded


def join_openvino(
    subgraphs: Sequence[tuple[openvino.Model, tuple[str, ...]]], outputs: Sequence[str]
) -> openvino.Model:
    """As `join_onnx`, for models of OpenVINO, each with the names that it writes.

    The models given become part of the result and cannot be used on their own any more.
    """
    import openvino

    first, _ = subgraphs[0]
    (parameter,) = first.get_parameters()
    (input_name,) = first.input(0).get_names()
    written = {input_name: parameter.output(0)}
    for model, writes in subgraphs:
        for port in model.inputs:
            source = written[port.get_any_name()]
            if source.get_node() is not port.get_node():
                for reader in port.get_target_inputs():
                    reader.replace_source_output(source)
        for port, name in zip(model.outputs, writes, strict=True):
            written[name] = port.get_node().input_value(0)
    for model, _ in subgraphs:  # inner names of two subgraphs may be alike
        for node in model.get_ordered_ops():
            for output in node.outputs():
                output.get_tensor().set_names(set())
    parameter.output(0).get_tensor().set_names({input_name})
    for name in outputs:
        written[name].get_tensor().set_names({name})
    results = [openvino.opset13.result(written[name]) for name in outputs]
    return openvino.Model(results, [parameter], "igcv3det")


def save_openvino(model: openvino.Model, path: Path, description: str) -> None:
    """Writes a model with its description; the weights go to a ``.bin`` beside it.

    The description gets a checksum of the weights: with a ``.bin`` of another model of the same
    size OpenVINO would compute nonsense without an error.

    Args:
        model: is changed.
        path: of the graph.
        description: a JSON mapping; empty for none.

    Raises:
        OSError: the files cannot be written; earlier ones are then left as they were.
    """
    import openvino

    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / path.name
        try:
            # Not compressed: a network in half precision is so already, the rest must not be
            openvino.save_model(model, written, compress_to_fp16=False)
            if description:
                checksum = hashlib.sha256(written.with_suffix(".bin").read_bytes()).hexdigest()
                described = json.dumps({**json.loads(description), WEIGHTS: checksum})
                model.set_rt_info(described, [DESCRIPTION])
                openvino.save_model(model, written, compress_to_fp16=False)  # the same .bin
        except RuntimeError as error:
            raise OSError(f"{path}: OpenVINO cannot write it: {first_line(error)}") from error
        with replacing(path.with_suffix(".bin")) as weights, replacing(path) as graph:
            weights.write_bytes(written.with_suffix(".bin").read_bytes())
            graph.write_bytes(written.read_bytes())


def _append(
    joined: onnx.GraphProto, graph: onnx.GraphProto, names: dict[str, str], prefix: str
) -> None:
    """Adds a graph's nodes and constants, renamed; ``names`` gets the new names."""
    for constant in graph.initializer:
        names[constant.name] = f"{prefix}/{constant.name}"
        joined.initializer.add().CopyFrom(constant)
        joined.initializer[-1].name = names[constant.name]
    for index, node in enumerate(graph.node):
        names.update({name: f"{prefix}/{name}" for name in node.output if name})
        added = joined.node.add()
        added.CopyFrom(node)
        added.name = f"{prefix}/{node.op_type}_{index}"
        added.input[:] = [names[name] if name else "" for name in node.input]
        added.output[:] = [names[name] if name else "" for name in node.output]
        # The tracer records source files with their paths on the exporting machine
        added.ClearField("metadata_props")
        added.ClearField("doc_string")


def _operator_set(subgraphs: Sequence[Subgraph]) -> onnx.OperatorSetIdProto:
    """The one that all subgraphs use; operators of another domain would not run everywhere."""
    models = [subgraph.model for subgraph in subgraphs]
    used = {node.domain for model in models for node in model.graph.node}
    sets = [own for model in models for own in model.opset_import if own.domain in used]
    assert len({(own.domain, own.version) for own in sets}) == 1, sets
    first: onnx.OperatorSetIdProto = sets[0]
    return first
