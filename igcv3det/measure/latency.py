"""Times several callables in turn, so that a busy or throttled machine slows all of them alike.

Every round calls each one once, and rounds start with a different one each time. The median of all
rounds is reported.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Timing:
    """The durations of one callable.

    Attributes:
        name: of the callable.
        milliseconds: one duration per round, in order.
    """

    name: str
    milliseconds: tuple[float, ...]

    @property
    def median_ms(self) -> float:
        """The median duration."""
        return statistics.median(self.milliseconds)

    @property
    def p90_ms(self) -> float:
        """The 90th percentile of the durations, linear between ranks."""
        return quantile(self.milliseconds, 0.9)

    @property
    def spread_ms(self) -> float:
        """Distance of the 10th and the 90th percentile; other load on the machine widens it."""
        return self.p90_ms - quantile(self.milliseconds, 0.1)


def time_in_turn(
    calls: Mapping[str, Callable[[], object]],
    rounds: int = 20,
    warmup: int = 3,
    clock: Callable[[], float] = time.perf_counter,
    synchronize: Callable[[], None] | None = None,
) -> list[Timing]:
    """Times every callable once a round.

    Args:
        calls: callables without arguments, by name.
        rounds: number of durations of each.
        warmup: calls of each before the first duration.
        clock: seconds.
        synchronize: waits for the device (``torch.cuda.synchronize``) before each reading of the
            clock; None for the CPU.

    Returns:
        One `Timing` for each callable, in order.

    Raises:
        ValueError: no callables, or fewer than one round.
    """
    if not calls:
        raise ValueError("nothing to time: calls is empty")
    if rounds < 1 or warmup < 0:
        raise ValueError(f"rounds must be >= 1 and warmup >= 0, got {rounds} and {warmup}")
    wait = synchronize or _nothing
    names = list(calls)
    for name in names:
        for _ in range(warmup):
            calls[name]()
    durations: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        start = turn % len(names)
        for name in names[start:] + names[:start]:
            wait()
            begin = clock()
            calls[name]()
            wait()
            durations[name].append((clock() - begin) * 1e3)
    return [Timing(name, tuple(durations[name])) for name in names]


def ratios(timings: Sequence[Timing]) -> list[float]:
    """Each median over the first one's."""
    return [timing.median_ms / timings[0].median_ms for timing in timings]


def quantile(values: Sequence[float], share: float) -> float:
    """The quantile of values at a share in 0..1, linear between ranks.

    Example:
        >>> quantile([4.0, 1.0, 2.0, 3.0], 0.5)
        2.5
    """
    ordered = sorted(values)
    rank = share * (len(ordered) - 1)
    low = int(rank)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (rank - low)


def _nothing() -> None:
    """A CPU needs no synchronisation."""
