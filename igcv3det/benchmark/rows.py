"""Times groups of contenders, one row for each."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import NotRequired, TypedDict

from igcv3det.benchmark.contenders import NETWORK, Calls, Contender, open_network, open_parts
from igcv3det.benchmark.memory import peak_mib
from igcv3det.benchmark.plan import Group
from igcv3det.benchmark.training_step import open_training_step
from igcv3det.measurement.latency import Timing, time_in_turn


class BenchmarkRow(TypedDict):
    """How long one contender took.

    ``ratio`` is that of the medians to the first model's in the same group, ``peak_mib`` is None
    where it was not measured, and ``part`` is there if parts of the way were timed.
    """

    model: str
    backend: str
    precision: str
    median_ms: float
    p90_ms: float
    ratio: float
    peak_mib: float | None
    part: NotRequired[str]


def time_group(
    group: Group,
    rounds: int,
    *,
    clock: Callable[[], float] = time.perf_counter,
    memory: bool = True,
    picture: Path | None = None,
) -> list[tuple[BenchmarkRow, Timing]]:
    """Times the contenders of a group in turn.

    Args:
        group: see `plan`.
        rounds: how often each is timed.
        clock: seconds; ``time.process_time`` with one thread on a machine that is busy.
        memory: measure the peak of each too.
        picture: an image file, to time the way from there to boxes, and its parts.

    Returns:
        Rows part by part, in each the contenders in their order, with their timings.

    Raises:
        OSError, ValueError, ImportError: a contender cannot be opened.
    """
    opened = {name: _open(own, group, picture) for name, own in group.contenders.items()}
    found: list[tuple[BenchmarkRow, Timing]] = []
    for part in next(iter(opened.values())):
        calls = {name: own[part] for name, own in opened.items()}
        timings = time_in_turn(calls, rounds, clock=clock)
        for timing in timings:
            row = BenchmarkRow(
                model=timing.name,
                backend=group.backend,
                precision=group.precision,
                median_ms=timing.median_ms,
                p90_ms=timing.p90_ms,
                ratio=timing.median_ms / timings[0].median_ms,
                peak_mib=None,
            )
            if memory and part == NETWORK:
                row["peak_mib"] = peak_mib(group.contenders[timing.name], group.step)
            if picture is not None:
                row["part"] = part
            found.append((row, timing))
    return found


def _open(contender: Contender, group: Group, picture: Path | None) -> Calls:
    if picture is not None:
        return open_parts(contender, picture)
    if group.step is not None:
        return {NETWORK: open_training_step(contender, group.step)}
    return {NETWORK: open_network(contender)}
