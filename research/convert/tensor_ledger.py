"""The book that a converter keeps of the tensors of a foreign graph."""

from __future__ import annotations

import numpy as np

from research.convert.tfjs import Array, GraphModel


class TensorLedger:
    """Hands out the graph's constants, each once, and collects everything that is wrong.

    Args:
        graph: from `read_graph_model`.
    """

    def __init__(self, graph: GraphModel) -> None:
        self._path = graph.path
        self._left = dict(graph.weights)
        self._users = {name: node for node in graph.nodes.values() for name in node.inputs}
        self._faults: list[str] = []

    def take(self, name: str, shape: tuple[int, ...]) -> Array:
        """The constant; zeros, and a fault in the book, if there is none of this shape."""
        value = self._left.pop(name, None)
        if value is None:
            self._faults.append(f"missing {name} {shape}")
        elif value.shape != shape:
            self._faults.append(f"{name} has shape {value.shape}, not {shape}")
        elif not np.isfinite(value).all():
            self._faults.append(f"{name} holds values that are not finite")
        else:
            return value
        return np.zeros(shape, np.float32)

    def compare(self, name: str, expected: Array, tolerance: float) -> None:
        """Takes a constant whose value is known beforehand."""
        faults = len(self._faults)
        value = self.take(name, expected.shape)
        same = np.allclose(value, expected, rtol=1e-6, atol=tolerance)
        if len(self._faults) == faults and not same:
            known = expected.tolist() if expected.size < 5 else "as expected"
            self._faults.append(f"{name} is not {known}")

    def check_convolution(self, kernel: str, stride: tuple[int, ...]) -> None:
        """Compares stride, layout and padding (SAME) of the operation that uses the kernel."""
        node = self._users.get(kernel)
        if node is None:
            return  # then the kernel is missing, which `take` has noted
        found = (node.text("padding"), node.text("data_format"), node.integers("strides"))
        expected = ("SAME", "NHWC", (1, *stride, 1))
        if found != expected:
            self._faults.append(f"{node.name} has {found}, not {expected}")

    def check_epsilon(self, scale: str, expected: float) -> None:
        """Compares the epsilon of the batch normalisation that uses this scale."""
        node = self._users.get(scale)
        if node is not None and abs(node.number("epsilon") - expected) > 1e-8:
            self._faults.append(f"{node.name} has epsilon {node.number('epsilon')}, not {expected}")

    def close(self, model: str) -> None:
        """Ends the conversion of the model of this name.

        Raises:
            ValueError: anything was wrong, or a constant was never taken; names all of it.
        """
        faults = [*self._faults, *(f"unknown {name}" for name in sorted(self._left))]
        if faults:
            raise ValueError(
                f"{self._path}: not the {model} this converter knows: " + "; ".join(faults)
            )
