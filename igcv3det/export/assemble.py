"""Joining the parts of an exported graph, and writing the whole, in ONNX and in OpenVINO.

Parts speak of tensors by name: each reads what was written under the names of its inputs last.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from igcv3det.description import DESCRIPTION
from igcv3det.runtime.sessions import openvino_core
from igcv3det.version import __version__

if TYPE_CHECKING:
    import onnx
    import openvino


class Part(NamedTuple):
    """A piece of an exported graph.

    Attributes:
        name: put before the names of its inner tensors and nodes.
        model: its inputs are named after what they read.
        writes: what its outputs are to be known as, in their order.
    """

    name: str
    model: onnx.ModelProto
    writes: tuple[str, ...]


def join_onnx(parts: Sequence[Part], outputs: Sequence[str]) -> onnx.ModelProto:
    """One model of all parts; its input is the first part's, its outputs are these names."""
    import onnx

    (first_input,) = parts[0].model.graph.input
    written = {first_input.name: first_input.name}
    joined = onnx.GraphProto(name="igcv3det", input=[first_input])
    ports: dict[str, onnx.ValueInfoProto] = {}
    for part in parts:
        graph = part.model.graph
        names = {port.name: written[port.name] for port in graph.input}
        _append(joined, graph, names, part.name)
        for port, name in zip(graph.output, part.writes, strict=True):
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
        ir_version=parts[-1].model.ir_version,
        opset_imports=[_operator_set(parts)],
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def save_onnx(model: onnx.ModelProto, path: Path, description: str) -> None:
    """Writes a model with its description."""
    import onnx

    onnx.helper.set_model_props(model, {DESCRIPTION: description})
    onnx.save(model, path)


def read_openvino(model: onnx.ModelProto) -> openvino.Model:
    """The same graph as OpenVINO has it."""
    core = openvino_core("OpenVINO's form")
    read: openvino.Model = core.read_model(model=model.SerializeToString())
    return read


def join_openvino(
    parts: Sequence[tuple[openvino.Model, tuple[str, ...]]], outputs: Sequence[str]
) -> openvino.Model:
    """As `join_onnx`, for parts that OpenVINO has read already; they are used up by this."""
    import openvino

    (parameter,) = parts[0][0].get_parameters()
    (input_name,) = parts[0][0].input(0).get_names()
    written = {input_name: parameter.output(0)}
    for model, writes in parts:
        for port in model.inputs:
            source = written[port.get_any_name()]
            if source.get_node() is not port.get_node():
                for reader in port.get_target_inputs():
                    reader.replace_source_output(source)
        for port, name in zip(model.outputs, writes, strict=True):
            written[name] = port.get_node().input_value(0)
    for model, _ in parts:  # a name that a part used inside must not be found twice
        for node in model.get_ordered_ops():
            for output in node.outputs():
                output.get_tensor().set_names(set())
    parameter.output(0).get_tensor().set_names({input_name})
    for name in outputs:
        written[name].get_tensor().set_names({name})
    results = [openvino.opset13.result(written[name]) for name in outputs]
    return openvino.Model(results, [parameter], "igcv3det")


def save_openvino(model: openvino.Model, path: Path, description: str) -> None:
    """Writes a model with its description; the weights go to a ``.bin`` beside it."""
    import openvino

    model.set_rt_info(description, [DESCRIPTION])
    # As they are: half precision, where wanted, is in the network already, and nowhere else
    openvino.save_model(model, path, compress_to_fp16=False)


def _append(
    joined: onnx.GraphProto, graph: onnx.GraphProto, names: dict[str, str], prefix: str
) -> None:
    """Adds a graph's nodes and constants, renamed; ``names`` learns the new names."""
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
        # The tracer notes source lines and their folders on the machine that exports
        added.ClearField("metadata_props")
        added.ClearField("doc_string")


def _operator_set(parts: Sequence[Part]) -> onnx.OperatorSetIdProto:
    """The one that all parts use; another domain's operators would not run everywhere."""
    used = {node.domain for part in parts for node in part.model.graph.node}
    sets = [own for part in parts for own in part.model.opset_import if own.domain in used]
    assert len({(own.domain, own.version) for own in sets}) == 1, sets
    first: onnx.OperatorSetIdProto = sets[0]
    return first
