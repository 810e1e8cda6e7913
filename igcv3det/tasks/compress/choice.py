"""The choice of one candidate a position under budgets, as an integer linear program.

Source: LANA (Molchanov et al., ECCV 2022, arXiv 2107.10624), section 3.3: the costs and the losses
of replacements at different positions are taken to add up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Option(NamedTuple):
    """A candidate as the choice sees it.

    Attributes:
        costs: by measure, as a share of the whole original's; below 0 for a cheaper candidate.
        loss: divergence of the network's outputs with this one replacement.
    """

    costs: Mapping[str, float]
    loss: float


def shown(measure: str) -> str:
    """A measure as options and files name it."""
    return measure.replace("_", "-")


def least_cost(positions: Sequence[Sequence[Option]], measure: str) -> float:
    """The cost of the cheapest candidates of all positions together; the original's is 1."""
    return 1 + sum(min(option.costs[measure] for option in options) for options in positions)


def choose(positions: Sequence[Sequence[Option]], budgets: Mapping[str, float]) -> list[int]:
    """The candidates of least total loss whose total costs are within the budgets.

    Args:
        positions: the candidates of each position, at least one.
        budgets: by measure, as shares of the original's costs.

    Returns:
        The index of the chosen candidate of each position.

    Raises:
        ValueError: a position without candidates, a cost or loss that is not finite, or budgets
            that no combination keeps; the message names the least that one can.

    Example:
        >>> keep = Option({"latency": 0}, 0)
        >>> first, second = (Option({"latency": -0.3}, loss) for loss in (5, 1))
        >>> choose([[keep, first], [keep, second]], {"latency": 0.7})
        [0, 1]
    """
    if not all(positions):
        raise ValueError(f"position {[bool(p) for p in positions].index(False)} has no candidates")
    options = [option for own in positions for option in own]
    if not np.isfinite([[o.loss, *(o.costs[m] for m in budgets)] for o in options]).all():
        raise ValueError("costs and losses must be finite")
    table = _Table.of(positions, tuple(budgets))
    for measure, budget in budgets.items():
        if (least := least_cost(positions, measure)) > budget + 1e-9:
            raise ValueError(
                f"{shown(measure)} {budget:g}: no combination is that small; the least is "
                f"{least:.3f}"
            )
    left = np.ones(len(table.losses), dtype=bool)
    _require_feasible(table, budgets)
    while True:
        chosen = _least(table, table.losses, budgets, np.flatnonzero(left))
        # an option that loses more than all the chosen ones together is in no better combination
        total = table.losses[chosen].sum()
        kept = left & (table.losses <= total)
        if kept.sum() == left.sum():
            starts = np.searchsorted(table.owner, np.arange(len(positions)))
            return [int(index - start) for index, start in zip(chosen, starts, strict=True)]
        left = kept


def unreachable(
    positions: Sequence[Sequence[Option]], budgets: Mapping[str, float], bound: Mapping[str, float]
) -> str:
    """What is to be said where no combination keeps a bound, else an empty text.

    Args:
        positions: the candidates of each position.
        budgets: what is wanted.
        bound: at least as large, for another input size may make up for the difference.
    """
    try:
        choose(positions, bound)
    except ValueError as error:
        if bound == budgets:
            return str(error)
        for measure, share in budgets.items():
            least = least_cost(positions, measure) * share / bound[measure]
            if least > share:
                return (
                    f"{shown(measure)} {share:g}: no combination is that small at any of the input "
                    f"sizes; the least is about {least:.3f}"
                )
        return f"{_listed(budgets)}: no combination keeps all of them at any of the input sizes"
    return ""


def _listed(budgets: Mapping[str, float]) -> str:
    return ", ".join(f"{shown(measure)} {share:g}" for measure, share in budgets.items())


class _Table(NamedTuple):
    """All options in a row.

    Attributes:
        owner: their positions.
        costs: by measure.
        losses: above the least of the position.
    """

    owner: NDArray[np.int64]
    costs: dict[str, NDArray[np.float64]]
    losses: NDArray[np.float64]

    @classmethod
    def of(cls, positions: Sequence[Sequence[Option]], measures: Sequence[str]) -> _Table:
        """The table of the options of each position."""
        owner = np.repeat(np.arange(len(positions)), [len(own) for own in positions])
        options = [option for own in positions for option in own]
        costs = {m: np.array([option.costs[m] for option in options]) for m in measures}
        least = np.array([min(option.loss for option in own) for own in positions])
        losses = np.array([option.loss for option in options]) - least[owner]
        return cls(owner, costs, losses)


def _require_feasible(table: _Table, budgets: Mapping[str, float]) -> None:
    """Checks that the budgets can be kept together; each can alone.

    Raises:
        ValueError: naming the least of the first measure that does not fit beside those before it.
    """
    kept: dict[str, float] = {}
    everything = np.arange(len(table.losses))
    for measure, budget in budgets.items():
        if kept:
            chosen = _least(table, table.costs[measure], kept, everything)
            least = 1 + table.costs[measure][chosen].sum()
            if least > budget + 1e-9:
                raise ValueError(
                    f"{shown(measure)} {budget:g}: no combination is that small and keeps "
                    f"{_listed(kept)} as well; the least is {least:.3f}"
                )
        kept[measure] = budget


def _least(
    table: _Table,
    objective: NDArray[np.float64],
    budgets: Mapping[str, float],
    rows: NDArray[np.int64],
) -> NDArray[np.int64]:
    """The rows of least objective within budgets that can be kept, one for each position.

    The solver's tolerances are absolute, so the objective is divided by its greatest value.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp

    owner, own = table.owner[rows], objective[rows]
    one_each = (owner[None, :] == np.unique(owner)[:, None]).astype(float)
    found = milp(
        own / max(float(np.abs(own).max()), np.finfo(float).tiny),
        integrality=np.ones(len(rows)),
        bounds=Bounds(0, 1),
        constraints=[
            LinearConstraint(one_each, 1, 1),
            *(LinearConstraint(table.costs[m][rows][None, :], ub=budgets[m] - 1) for m in budgets),
        ],
        options={"mip_rel_gap": 0.0},
    )
    assert found.x is not None, "the budgets can be kept"
    chosen: NDArray[np.int64] = rows[found.x > 0.5]
    return chosen
