"""What each candidate costs: latency in its surroundings, multiply-adds, parameters.

A part's latency alone would contain conversions of layout at its borders that the whole network
does not have. So a candidate is timed between its neighbours, in turn with the original there, and
the difference counts.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from igcv3det.export.modules import write_module
from igcv3det.export.onnx_quantization import INT8_VARIANT
from igcv3det.export_formats import RUNTIMES
from igcv3det.fastpath.deploy import Variant
from igcv3det.measure.complexity import count_multiply_adds, count_parameters
from igcv3det.measure.latency import Timing, quantile, time_in_turn
from igcv3det.measure.targets import Library
from igcv3det.runtime.export_spec import Precision
from igcv3det.runtime.sessions import open_session
from igcv3det.tasks.compress.candidates import Candidate
from igcv3det.tasks.compress.design import Design
from igcv3det.tasks.compress.parts import IMAGES, Chain, run_parts
from igcv3det.tasks.compress.teacher import Size, Teacher
from igcv3det.tasks.compress.work_folder import TEMPORARY

ROUNDS = 100  # of a candidate and the original in turn
ATTEMPTS = 5
DISTURBED = 1.5  # times the fastest run
Call = Callable[[], object]


class Price(NamedTuple):
    """Costs of a candidate relative to the original's.

    Attributes:
        latency: milliseconds.
        multiply_adds: of one image.
        parameters: number.
    """

    latency: float
    multiply_adds: float
    parameters: float


class _Opened(NamedTuple):
    before: Call
    after: Call
    multiply_adds: float
    parameters: float


class Pricer:
    """Measures candidates on one backend.

    Args:
        teacher: the original.
        backend: that runs the network.
        threads: of the backend.
        precision: ``fp32`` or ``int8``, in which the backend computes.
        folder: for exported files while they are opened; None is the system's.

    Attributes:
        original: the teacher's design.
        counts: its multiply-adds and parameters.
    """

    def __init__(
        self,
        teacher: Teacher,
        backend: Library,
        threads: int,
        precision: Precision = "fp32",
        folder: Path | None = None,
    ) -> None:
        self.teacher, self.backend, self.threads = teacher, backend, threads
        self.precision, self.folder = precision, folder
        is_dense = precision == "int8" and backend == "onnxruntime"
        self._variant: Variant = INT8_VARIANT if is_dense else backend
        if backend == "torch":
            torch.set_num_threads(threads)
        self._shapes = _shapes(teacher)
        self._known: dict[object, Price] = {}
        self._opened: dict[object, _Opened] = {}
        self._originals: dict[tuple[str, ...], Call] = {}
        self.original = teacher.design
        self._parts = teacher.parts()
        network = teacher.network
        self.counts = (count_multiply_adds(network, self._images), count_parameters(network))

    @property
    def _images(self) -> tuple[int, int, int, int]:
        return (1, 3, *self.teacher.size)

    def open(self, candidate: Candidate) -> None:
        """Opens what `price` times: tracing disturbs timings and takes longer than they do."""
        key = self._signature(candidate)
        if candidate.is_original or key in self._opened or key in self._known:
            return
        changed = self.original | candidate.changes
        network = self.teacher.build(changed)
        around = tuple(self.teacher.neighbours(candidate.position))
        if around not in self._originals:
            self._originals[around] = self._chain(self.teacher.network, self.original, around)
        self._opened[key] = _Opened(
            self._originals[around],
            self._chain(network, changed, around),
            count_multiply_adds(network, self._images) - self.counts[0],
            count_parameters(network) - self.counts[1],
        )

    def close(self) -> None:
        """Frees what is open; prices stay known."""
        self._opened.clear()
        self._originals.clear()

    def price(self, candidate: Candidate) -> Price:
        """What a candidate costs more than the original; like surroundings are timed once."""
        if candidate.is_original:
            return Price(0.0, 0.0, 0.0)
        self.open(candidate)
        key = self._signature(candidate)
        if key not in self._known:
            opened = self._opened[key]
            calls = {"before": opened.before, "after": opened.after}
            before, after = _quiet_in_turn(calls)
            self._known[key] = Price(after - before, opened.multiply_adds, opened.parameters)
        return self._known[key]

    def whole(self, networks: Sequence[tuple[Design, Size]]) -> list[float]:
        """Milliseconds of whole networks, timed in turn.

        Args:
            networks: the design of each, and (height, width) of its input.
        """
        calls = {}
        for number, (design, size) in enumerate(networks):
            network = self.teacher.at_size(self.teacher.build(design), size)
            deployed = self.teacher.deploy(network, self._variant)
            x = torch.randn(1, 3, *size)
            calls[str(number)] = self._open(*self.teacher.whole(deployed, design), x)
        return _quiet_in_turn(calls)

    def _signature(self, candidate: Candidate) -> object:
        """What the measurement depends on: blocks in the middle of a stage are alike."""
        names = self.teacher.neighbours(candidate.position)
        if len(names) != 3 or not all(name.startswith("block") for name in names):
            return candidate.key
        around = [self._parts[name] for name in names]
        shapes = [(p.stride, [self._shapes[n] for n in (p.reads, *p.outputs)]) for p in around]
        blocks = [self.original[p.outputs[-1].replace("x", "blocks.")] for p in around]
        return repr((shapes, blocks, list(candidate.changes.values())))

    def _chain(self, network: nn.Module, design: Design, around: Sequence[str]) -> Call:
        parts = self.teacher.split(self.teacher.deploy(network, self._variant), design)
        chain = Chain({position: parts[position] for position in around})
        return self._open(chain, chain.writes, torch.randn(1, *self._shapes[chain.reads]))

    def _open(self, module: nn.Module, writes: tuple[str, ...], x: Tensor) -> Call:
        module.eval()
        if self.backend == "torch":
            held = x.contiguous(memory_format=torch.channels_last)
            return torch.inference_mode()(lambda: module(held))
        with tempfile.TemporaryDirectory(prefix=TEMPORARY, dir=self.folder) as folder:
            path = (Path(folder) / "network").with_suffix(RUNTIMES[self.backend].suffix)
            # the ranges of activations have no effect on the time
            calibration = [x.numpy()] if self.precision == "int8" else None
            write_module(module, x, writes, path, calibration)
            session = open_session(path, self.threads)
        array = x.numpy()
        return lambda: session.run(array)


def _quiet_in_turn(calls: Mapping[str, Call]) -> list[float]:
    """Milliseconds of each; a measurement that other load has disturbed is repeated."""
    found: list[list[Timing]] = []
    for _ in range(ATTEMPTS):
        timings = time_in_turn(calls, rounds=ROUNDS, warmup=5)
        found.append(timings)
        if all(_quiet(own) <= DISTURBED * min(own.milliseconds) for own in timings):
            break
    best = min(found, key=lambda timings: sum(map(_quiet, timings)))
    return [_quiet(timing) for timing in best]


def _quiet(timing: Timing) -> float:
    """Milliseconds of the faster runs: other load on the machine only ever adds time."""
    return quantile(timing.milliseconds, 0.15)


@torch.no_grad()
def _shapes(teacher: Teacher) -> dict[str, tuple[int, ...]]:
    images = torch.zeros(1, 3, *teacher.size)
    found = run_parts(teacher.parts(), {IMAGES: images})
    return {name: tuple(value.shape[1:]) for name, value in found.items()}
