"""Timing of several callables in turn, so that a busy or throttled machine slows all of them alike.

Timing one after the other makes the order decide; here every round calls each once, starting with
another one each time, and the middle of all rounds is reported.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Timing:
    """How long one callable took.

    Attributes:
        name: what was called.
        milliseconds: one duration a round, in the order of the rounds.
    """

    name: str
    milliseconds: tuple[float, ...]

    @property
    def median_ms(self) -> float:
        """The middle duration."""
        return statistics.median(self.milliseconds)

    @property
    def p90_ms(self) -> float:
        """Nine of ten rounds took at most this long (linear between ranks)."""
        return quantile(self.milliseconds, 0.9)

    @property
    def spread_ms(self) -> float:
        """From the 10th to the 90th percentile: what the machine's other work did to the rounds."""
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
        calls: name to callable without arguments.
        rounds: how many durations each gets.
        warmup: calls of each before the first duration.
        clock: seconds; another one for tests.
        synchronize: waits for the device (``torch.cuda.synchronize``), called before each reading
            of the clock; None for the CPU.

    Returns:
        One `Timing` for each callable, in their order.

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
    """The value below which this share of the values lies, linear between ranks.

    Example:
        >>> quantile([4.0, 1.0, 2.0, 3.0], 0.5)
        2.5
    """
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def _nothing() -> None:
    """What the CPU needs to wait for."""
