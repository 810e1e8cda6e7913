"""What networks cost at other input sizes than the one that was searched at."""

from __future__ import annotations

from collections.abc import Iterable

from igcv3det.measure.complexity import count_multiply_adds
from igcv3det.tasks.compress.design import Design
from igcv3det.tasks.compress.options import Budgets
from igcv3det.tasks.compress.price_files import read_shares
from igcv3det.tasks.compress.search import Search
from igcv3det.tasks.compress.teacher import Size

SIZED_MEASURES = ("latency", "multiply_adds")
"""The measures that a smaller input makes smaller."""


def original_costs(search: Search, size: Size, measures: Iterable[str]) -> dict[str, float]:
    """What the original costs for inputs of a size, as shares of its own; timed once.

    Args:
        search: with prices.
        size: (height, width), pixels.
        measures: those that are asked for.
    """
    costs = dict.fromkeys(measures, 1.0)
    if size != search.teacher.size and "latency" in costs:
        costs["latency"] = _latency(search, size)
    if size != search.teacher.size and "multiply_adds" in costs:
        costs["multiply_adds"] = multiply_adds(search, search.teacher.design, size)
    return costs


def _latency(search: Search, size: Size) -> float:
    file, key = f"sizes-{search.price_key.replace(' ', '-')}.json", _text(size)
    known = read_shares(search.folder, file)
    if key not in known:
        original = search.teacher.design
        own, other = search.pricer().whole([(original, search.teacher.size), (original, size)])
        known[key] = other / own
        search.folder.write(file, known)
    return known[key]


def multiply_adds(search: Search, design: Design, size: Size) -> float:
    """Those of a network for inputs of a size, as a share of the original's."""
    network = search.teacher.at_size(search.teacher.build(design), size)
    return count_multiply_adds(network, (1, 3, *size)) / search.own_costs.multiply_adds


def at_own_size(search: Search, budgets: Budgets, size: Size) -> dict[str, float]:
    """The budgets that a network must keep at the original's input size to keep some at another.

    The parts are taken to have the same shares of the latency at all sizes.
    """
    costs = original_costs(search, size, budgets)
    return {measure: share / costs[measure] for measure, share in budgets.items()}


def _text(size: Size) -> str:
    return "x".join(map(str, size))
