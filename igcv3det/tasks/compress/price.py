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

from igcv3det.detector import SSDLite
from igcv3det.export.modules import write_module
from igcv3det.export_formats import RUNTIMES
from igcv3det.fastpath.deploy import Variant, deploy
from igcv3det.measure.complexity import count_multiply_adds, count_parameters
from igcv3det.measure.latency import Timing, quantile, time_in_turn
from igcv3det.measure.targets import Library
from igcv3det.runtime.sessions import open_session
from igcv3det.tasks.compress.candidates import Candidate
from igcv3det.tasks.compress.design import Design, build, design_of
from igcv3det.tasks.compress.parts import IMAGES, TAP, Part, parts_of, run_parts, split_parts

ROUNDS = 100  # of a candidate and the original in turn
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


class Chain(nn.Module):
    """Some parts as one function of what the first of them reads.

    Args:
        parts: in the order in which they run; each reads what one before writes.
    """

    def __init__(self, parts: dict[str, Part]) -> None:
        super().__init__()
        self.parts = nn.ModuleDict(parts)
        self.reads = next(iter(parts.values())).reads
        read = {part.reads for part in parts.values()}
        written = (name for part in parts.values() for name in part.outputs)
        self.writes = tuple(name for name in written if name not in read)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """The outputs that no part of the chain reads."""
        parts: dict[str, Part] = dict(self.parts.items())  # type: ignore[arg-type]
        found = run_parts(parts, {self.reads: x})
        return tuple(found[name] for name in self.writes)


class Pricer:
    """Measures candidates on one backend.

    Args:
        teacher: with listed blocks.
        backend: that runs the detector.
        threads: of the backend.

    Attributes:
        original: the teacher's design.
        counts: its multiply-adds and parameters.
    """

    def __init__(self, teacher: SSDLite, backend: Library, threads: int) -> None:
        self.teacher, self.backend, self.threads = teacher, backend, threads
        if backend == "torch":
            torch.set_num_threads(threads)
        self._shapes = _shapes(teacher)
        self._known: dict[object, Price] = {}
        self._opened: dict[object, _Opened] = {}
        self._originals: dict[tuple[str, ...], Call] = {}
        self.original = design_of(teacher.config)
        self._parts = split_parts(teacher, self.original)
        self.counts = (count_multiply_adds(teacher, self._images), count_parameters(teacher))

    @property
    def _images(self) -> tuple[int, int, int, int]:
        size = self.teacher.config.image_size
        return (1, 3, size, size)

    def open(self, candidate: Candidate) -> None:
        """Opens what `price` times: tracing disturbs timings and takes longer than they do."""
        key = self._signature(candidate)
        if candidate.is_original or key in self._opened or key in self._known:
            return
        changed = self.original | candidate.changes
        detector = build(changed, self.teacher)
        around = tuple(_around(self._parts, candidate.position))
        if around not in self._originals:
            self._originals[around] = self._chain(self.teacher, self.original, around)
        self._opened[key] = _Opened(
            self._originals[around],
            self._chain(detector, changed, around),
            count_multiply_adds(detector, self._images) - self.counts[0],
            count_parameters(detector) - self.counts[1],
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
            before, after = (_quiet(t) for t in time_in_turn(calls, rounds=ROUNDS, warmup=5))
            self._known[key] = Price(after - before, opened.multiply_adds, opened.parameters)
        return self._known[key]

    def whole(self, designs: Sequence[Design]) -> list[float]:
        """Milliseconds of whole networks, timed in turn."""
        calls = {}
        for number, design in enumerate(designs):
            parts = split_parts(self._deployed(build(design, self.teacher)), design)
            calls[str(number)] = self._open(parts)
        timings = time_in_turn(calls, rounds=ROUNDS, warmup=5)
        return [_quiet(timing) for timing in timings]

    def _signature(self, candidate: Candidate) -> object:
        """What the measurement depends on: blocks in the middle of a stage are alike."""
        parts = self._parts
        part = parts[candidate.position]
        names = _around(parts, candidate.position)
        if len(names) != 3 or not all(name.startswith("block") for name in names):
            return candidate.key
        around = [parts[name] for name in names]
        shapes = [(p.stride, [self._shapes[n] for n in (p.reads, *p.outputs)]) for p in around]
        blocks = [
            self.original[p.outputs[-1].replace("x", "blocks.")] for p in around if p is not part
        ]
        return repr((shapes, blocks, list(candidate.changes.values())))

    def _chain(self, detector: SSDLite, design: Design, around: Sequence[str]) -> Call:
        parts = split_parts(self._deployed(detector), design)
        return self._open({position: parts[position] for position in around})

    def _deployed(self, detector: SSDLite) -> SSDLite:
        variant: Variant = self.backend
        return deploy(detector, variant)

    def _open(self, parts: dict[str, Part]) -> Call:
        chain = Chain(parts).eval()
        x = torch.randn(1, *self._shapes[chain.reads])
        if self.backend == "torch":
            held = x.contiguous(memory_format=torch.channels_last)
            return torch.inference_mode()(lambda: chain(held))
        with tempfile.TemporaryDirectory() as folder:
            path = (Path(folder) / "chain").with_suffix(RUNTIMES[self.backend].suffix)
            write_module(chain, x, chain.writes, path)
            session = open_session(path, self.threads)
        array = x.numpy()
        return lambda: session.run(array)


def _quiet(timing: Timing) -> float:
    """Milliseconds of the faster runs: other load on the machine only ever adds time."""
    return quantile(timing.milliseconds, 0.15)


def _around(parts: Mapping[str, Part], position: str) -> list[str]:
    """A position and its neighbours: parts with one input in common."""
    names = list(parts)
    own, end = names.index(position), names.index("last")
    tap = next(name for name, part in parts.items() if TAP in part.outputs)
    if position == "head0":
        return [tap, "head0"]
    if own >= end:
        return [name for name in names[end - 1 :] if name != "head0"]
    around = names[max(0, own - 1) : own + 2]
    return [*around, "head0"] if tap in around else around


@torch.no_grad()
def _shapes(teacher: SSDLite) -> dict[str, tuple[int, ...]]:
    size = teacher.config.image_size
    found = run_parts(parts_of(teacher), {IMAGES: torch.zeros(1, 3, size, size)})
    return {name: tuple(value.shape[1:]) for name, value in found.items()}
