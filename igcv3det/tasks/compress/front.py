"""From the judged candidates to networks on the front: choice and measurement."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import takewhile
from types import MappingProxyType
from typing import Any, NamedTuple

from igcv3det.models.igcv3 import TAP_STAGE
from igcv3det.tasks.compress.assembly import chosen_design
from igcv3det.tasks.compress.candidates import Candidate
from igcv3det.tasks.compress.choice import Option, choose, least_cost, shown
from igcv3det.tasks.compress.input_costs import at_own_size, multiply_adds, original_costs
from igcv3det.tasks.compress.options import MEASURES, Budgets
from igcv3det.tasks.compress.search import Search
from igcv3det.tasks.compress.teacher import Size

_CORRECTIONS = 3
_SLACK = 0.003  # of the original's latency, for the noise of a measurement
_TOLERANCE = 0.03  # likewise, where a network that was within its budget is measured once more
FRONT_STEPS = 24
"""Budgets between the least and 1 at which the front is drawn."""


class Point(NamedTuple):
    """A network on the front.

    Attributes:
        budgets: what it was chosen for, by measure.
        chosen: a candidate for each position.
        costs: predicted, by measure, as shares of the original's.
        loss: sum of the candidates' divergences at the original's input size, nats for an image;
            NaN where the file of one of them is gone.
        size: (height, width) of its input, pixels; None is the original's.
        tried: side of the input to AP against the original's detections, of the sizes tried.
    """

    budgets: Budgets
    chosen: dict[str, Candidate]
    costs: dict[str, float]
    loss: float
    size: Size | None = None
    tried: Mapping[int, float] = MappingProxyType({})

    @property
    def name(self) -> str:
        """Name of its file: measures and shares."""
        return name_of(self.budgets)


def choose_point(search: Search, budgets: Budgets, size: Size | None = None) -> Point:
    """The network of least loss within the budgets.

    Args:
        search: done.
        budgets: shares of the original's costs at its own input size.
        size: (height, width) of the network's input; None is the original's.

    Raises:
        ValueError: no combination keeps them; the message names the least.
    """
    by_position = search.options_by_position()
    positions = [[option for _, option in own] for own in by_position.values()]
    inner = budgets if size is None else at_own_size(search, budgets, size)
    try:
        indices = choose(positions, inner)
    except ValueError as error:
        if size is None:
            raise
        raise ValueError(
            f"{name_of(budgets)} at {size[1]} px, in shares of the original's costs there: {error}"
        ) from error
    pairs = [own[i] for own, i in zip(by_position.values(), indices, strict=True)]
    return point_of(search, budgets, pairs, size)


def point_of(
    search: Search,
    budgets: Budgets,
    pairs: Sequence[tuple[Candidate, Option]],
    size: Size | None = None,
) -> Point:
    """The point of a candidate for each position."""
    chosen = {c.position: c for c, _ in pairs}
    costs = {m: 1 + sum(option.costs[m] for _, option in pairs) for m in MEASURES}
    if size is not None:
        costs["latency"] *= original_costs(search, size, ["latency"])["latency"]
        costs["multiply_adds"] = multiply_adds(search, chosen_design(search.teacher, chosen), size)
    return Point(budgets, chosen, costs, sum(option.loss for _, option in pairs), size)


def name_of(budgets: Budgets) -> str:
    """What the file of the network for some budgets is called: measures and shares."""
    return "-".join(f"{shown(m)}{share:g}" for m, share in budgets.items())


def choose_measured(search: Search, budgets: Budgets, size: Size | None = None) -> Point:
    """As `choose_point`, with the costs of the whole network within the budgets where possible.

    Where the sum of the parts' latencies promises too much or too little, the choice is repeated
    with a budget that is corrected by the difference; so are multiply-adds at another input size.

    Raises:
        ValueError: as `choose_point`.
    """
    point = choose_point(search, budgets, size)
    corrected, best = dict(budgets), None
    for _ in range(_CORRECTIONS):
        excess = _excess(search, point)
        if all(e <= 0 for e in excess.values()) and (best is None or point.loss < best.loss):
            best = point
        changes = {m: -e - _SLACK for m, e in excess.items() if m == "latency" or e > 0}
        if all(abs(change) < _SLACK for change in changes.values()):
            break
        for measure, change in changes.items():
            corrected[measure] += change
        try:
            closer = choose_point(search, corrected, size)
        except ValueError:
            break
        if closer.chosen == point.chosen:
            break
        point = closer._replace(budgets=budgets)
    return best or point


def _excess(search: Search, point: Point) -> dict[str, float]:
    """What the whole network costs beyond its budgets, where its parts' costs do not tell."""
    excess = {}
    if "latency" in point.budgets:
        (share,) = measured_shares(search, [point])
        search.say(f"{point.name}: latency {share:.3f}, predicted {point.costs['latency']:.3f}")
        excess["latency"] = share - point.budgets["latency"]
    if "multiply_adds" in point.budgets and point.size is not None:
        excess["multiply_adds"] = point.costs["multiply_adds"] - point.budgets["multiply_adds"]
    return excess


def unmet(point: Point, measured: float) -> str:
    """What is to be said of a network that costs more than its budgets, else an empty text."""
    budget = point.budgets.get("latency", math.inf)
    found = []
    if measured > budget + _TOLERANCE:
        found.append(f"latency {budget:g}: not met, measured {measured:.3f}")
    budget = point.budgets.get("multiply_adds", math.inf)
    if point.size is not None and point.costs["multiply_adds"] > budget:
        found.append(f"multiply-adds {budget:g}: not met, {point.costs['multiply_adds']:.3f}")
    return "; ".join(found)


def front(search: Search, measure: str) -> list[Point]:
    """Points from the least share of a measure to the original's, where that is greater."""
    positions = [[o for _, o in own] for own in search.options_by_position().values()]
    least = least_cost(positions, measure)
    steps = FRONT_STEPS if least < 1 else 0  # grouped blocks may all be slower
    shares = [least + (1 - least) * n / FRONT_STEPS for n in range(steps + 1)]
    return [choose_point(search, {measure: share + 1e-6}) for share in shares]


def measured_shares(search: Search, points: Sequence[Point]) -> list[float]:
    """Latency of whole networks as shares of the original's, timed in turn."""
    pricer = search.pricer()
    own = search.teacher.size
    networks = [(chosen_design(search.teacher, p.chosen), p.size or own) for p in points]
    whole, *others = pricer.whole([(pricer.original, own), *networks])
    return [milliseconds / whole for milliseconds in others]


def unchanged_parts(search: Search, point: Point) -> list[str]:
    """The leading parts that are the original's, as ``model.distillation.frozen`` takes them.

    At most those before the stage of the fine map: later ones adapt to the heads.
    """
    stages = {"stem": ["stem"]}
    for number, block in enumerate(search.teacher.blocks):
        if block.stage <= TAP_STAGE:
            stages.setdefault(f"stage{block.stage}", []).append(f"block{number}")
    replaced = {p for p, candidate in point.chosen.items() if not candidate.is_original}
    return list(takewhile(lambda name: not replaced & set(stages[name]), stages))


def describe_point(point: Point, measured: float | None) -> dict[str, Any]:
    """Plain values of a point for the report."""
    replaced = {p: c.name for p, c in point.chosen.items() if not c.is_original}
    return {
        "name": point.name,
        "budgets": dict(point.budgets),
        "agreement": dict(point.tried),
        "predicted": point.costs,
        "measured_latency": measured,
        "loss": point.loss if math.isfinite(point.loss) else None,
        "replaced": replaced,
    }
