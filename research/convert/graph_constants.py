"""Reading the constants of a TensorFlow graph, with checks of names, shapes and values."""

from __future__ import annotations

import numpy as np

from research.convert.tfjs import Array, GraphModel


class GraphConstants:
    """The constants of a graph, each to be taken once; mismatches are collected.

    Args:
        graph: from `read_graph_model`.
    """

    def __init__(self, graph: GraphModel) -> None:
        self._path = graph.path
        self._unused = dict(graph.weights)
        self._users = {name: node for node in graph.nodes.values() for name in node.inputs}
        self._errors: list[str] = []

    def take(self, name: str, shape: tuple[int, ...]) -> Array:
        """A constant; zeros, and an error is recorded, if it is missing or has another shape."""
        value = self._unused.pop(name, None)
        if value is None:
            self._errors.append(f"missing {name} {shape}")
        elif value.shape != shape:
            self._errors.append(f"{name} has shape {value.shape}, not {shape}")
        elif not np.isfinite(value).all():
            self._errors.append(f"{name} has values that are not finite")
        else:
            return value
        return np.zeros(shape, np.float32)

    def compare(self, name: str, expected: Array, tolerance: float) -> None:
        """Takes a constant and compares it with its expected value."""
        errors = len(self._errors)
        value = self.take(name, expected.shape)
        same = np.allclose(value, expected, rtol=1e-6, atol=tolerance)
        if len(self._errors) == errors and not same:
            text = expected.tolist() if expected.size < 5 else "as expected"
            self._errors.append(f"{name} is not {text}")

    def check_convolution(self, kernel: str, stride: tuple[int, ...]) -> None:
        """Checks stride, layout and padding (SAME) of the convolution with this kernel."""
        node = self._users.get(kernel)
        if node is None:
            return  # the kernel is missing, which `take` has recorded
        found = (node.text("padding"), node.text("data_format"), node.integers("strides"))
        expected = ("SAME", "NHWC", (1, *stride, 1))
        if found != expected:
            self._errors.append(f"{node.name} has {found}, not {expected}")

    def check_epsilon(self, scale: str, expected: float) -> None:
        """Checks the epsilon of the batch normalisation with this scale."""
        node = self._users.get(scale)
        if node is not None and abs(node.number("epsilon") - expected) > 1e-8:
            self._errors.append(f"{node.name} has epsilon {node.number('epsilon')}, not {expected}")

    def raise_errors(self, model: str) -> None:
        """Raises the recorded errors; to be called when all constants are taken.

        Args:
            model: name of the expected model, for the message.

        Raises:
            ValueError: there were errors, or a constant was not taken; the message has them all.
        """
        errors = [*self._errors, *(f"unknown {name}" for name in sorted(self._unused))]
        if errors:
            raise ValueError(f"{self._path}: not the expected {model}: " + "; ".join(errors))
