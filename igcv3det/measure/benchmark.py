"""Times groups of targets, one row for each."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import NotRequired, TypedDict

from igcv3det.measure.latency import Timing, time_in_turn
from igcv3det.measure.memory import peak_mib
from igcv3det.measure.plan import Group
from igcv3det.measure.targets import NETWORK, BenchmarkTarget, Calls, open_network, open_parts
from igcv3det.measure.training_step import open_training_step


class BenchmarkRow(TypedDict):
    """How long one target took.

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
    image_file: Path | None = None,
) -> list[tuple[BenchmarkRow, Timing]]:
    """Times the targets of a group in turn.

    Args:
        group: see `plan`.
        rounds: how often each is timed.
        clock: seconds; ``time.process_time`` with one thread on a machine that is busy.
        memory: measure the peak of each too.
        image_file: an image file, to time the way from there to boxes, and its parts.

    Returns:
        Rows part by part, in each the targets in their order, with their timings.

    Raises:
        OSError, ValueError, ImportError: a target cannot be opened.
    """
    opened = {name: _open(own, group, image_file) for name, own in group.targets.items()}
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
                row["peak_mib"] = peak_mib(group.targets[timing.name], group.step)
            if image_file is not None:
                row["part"] = part
            found.append((row, timing))
    return found


def _open(target: BenchmarkTarget, group: Group, image_file: Path | None) -> Calls:
    if image_file is not None:
        return open_parts(target, image_file)
    if group.step is not None:
        return {NETWORK: open_training_step(target, group.step)}
    return {NETWORK: open_network(target)}
