"""The choice of one candidate a position under budgets, as an integer linear program.

Source: LANA (Molchanov et al., ECCV 2022, arXiv 2107.10624), section 3.3: the costs and the losses
of replacements at different positions are taken to add up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np


class Option(NamedTuple):
    """A candidate as the choice sees it.

    Attributes:
        costs: by measure, as a share of the whole original's; below 0 for a cheaper candidate.
        loss: divergence of the network's outputs with this one replacement.
    """

    costs: Mapping[str, float]
    loss: float


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
    from scipy.optimize import Bounds, LinearConstraint, milp

    if not all(positions):
        raise ValueError(f"position {[bool(p) for p in positions].index(False)} has no candidates")
    options = [option for own in positions for option in own]
    costs = {m: np.array([option.costs[m] for option in options]) for m in budgets}
    losses = np.array([option.loss for option in options])
    if not all(np.isfinite(values).all() for values in (losses, *costs.values())):
        raise ValueError("costs and losses must be finite")
    for measure, budget in budgets.items():
        if (least := least_cost(positions, measure)) > budget + 1e-9:
            raise ValueError(
                f"{measure} {budget:g}: no combination is that small; the least is {least:.3f}"
            )
    owner = np.repeat(np.arange(len(positions)), [len(own) for own in positions])
    one_each = (owner[None, :] == np.arange(len(positions))[:, None]).astype(float)
    found = milp(
        losses / max(float(np.abs(losses).max()), np.finfo(float).tiny),
        integrality=np.ones(len(options)),
        bounds=Bounds(0, 1),
        constraints=[
            LinearConstraint(one_each, 1, 1),
            *(LinearConstraint(costs[m][None, :], ub=budgets[m] - 1) for m in budgets),
        ],
    )
    if found.x is None:
        together = ", ".join(f"{m} {budget:g}" for m, budget in budgets.items())
        raise ValueError(f"no combination keeps all of {together} together")
    chosen = np.flatnonzero(found.x > 0.5)
    starts = np.searchsorted(owner, np.arange(len(positions)))
    return [int(index - start) for index, start in zip(chosen, starts, strict=True)]
