"""The integer program against enumeration."""

import itertools

import numpy as np
import pytest

pytest.importorskip("scipy")
from igcv3det.tasks.compress.choice import Option, choose, least_cost, unreachable


def _options(rng):
    costs = rng.uniform(-0.2, 0.05, (rng.integers(1, 5), 2))
    return [Option({"latency": a, "parameters": b}, rng.uniform(0, 3)) for a, b in costs]


def _within(combination, budgets):
    return all(1 + sum(o.costs[m] for o in combination) <= b + 1e-9 for m, b in budgets.items())


@pytest.mark.parametrize("seed", range(8))
def test_choice_is_the_best_of_all_combinations(seed):
    rng = np.random.default_rng(seed)
    positions = [_options(rng) for _ in range(5)]
    for share in (0.0, 0.3, 0.7):
        least = least_cost(positions, "latency")
        budgets = {"latency": least + share * (1 - least)}
        if share > 0:
            budgets["parameters"] = least_cost(positions, "parameters") + 0.15
        allowed = [c for c in itertools.product(*positions) if _within(c, budgets)]
        if not allowed:
            kept = {"latency": budgets["latency"]}
            beside = [c for c in itertools.product(*positions) if _within(c, kept)]
            least = min(1 + sum(o.costs["parameters"] for o in c) for c in beside)
            with pytest.raises(ValueError, match=rf"as well; the least is {least:.3f}"):
                choose(positions, budgets)
            continue
        chosen = choose(positions, budgets)
        picked = [options[index] for options, index in zip(positions, chosen, strict=True)]
        assert _within(picked, {m: b + 1e-6 for m, b in budgets.items()})
        best = min(sum(o.loss for o in combination) for combination in allowed)
        assert sum(o.loss for o in picked) == pytest.approx(best, abs=1e-5)


@pytest.mark.parametrize("huge", [1e4, 1e8, 1e12, 1e30])
def test_a_huge_loss_hides_no_differences(huge):
    """The least losses: 1 + 0 within 0.7, 1 + 4 within 0.4, 1 + 60 within 0.36."""
    keep = Option({"latency": 0}, 0)
    first = [keep, *(_option(-0.3, loss) for loss in (5, 1)), _option(-0.31, huge)]
    second = [keep, _option(-0.3, 4), _option(-0.35, 60)]
    assert choose([first, second], {"latency": 0.7}) == [2, 0]
    assert choose([first, second], {"latency": 0.4}) == [2, 1]
    assert choose([first, second], {"latency": 0.36}) == [2, 2]


def _option(latency, loss):
    return Option({"latency": latency}, loss)


def test_a_budget_out_of_reach_names_the_least():
    positions = [[Option({"latency": 0}, 0), Option({"latency": -0.25}, 1)]]
    with pytest.raises(ValueError, match=r"latency 0\.5: .* the least is 0\.750"):
        choose(positions, {"latency": 0.5})


@pytest.mark.parametrize(
    ("positions", "complaint"),
    [
        ([[Option({"latency": 0}, 0)], []], "position 1 has no candidates"),
        ([[Option({"latency": float("nan")}, 0)]], "must be finite"),
        ([[Option({"latency": 0}, float("inf"))]], "must be finite"),
    ],
)
def test_wrong_tables_are_refused(positions, complaint):
    with pytest.raises(ValueError, match=complaint):
        choose(positions, {"latency": 1})


def test_a_budget_out_of_reach_at_any_size_is_the_users():
    """At half the side the parts may cost four times as much, and a quarter for rounding."""
    keep, less = Option({"multiply_adds": 0.0}, 0.0), Option({"multiply_adds": -0.4}, 1.0)
    positions = [[keep, less]]
    assert unreachable(positions, {"multiply_adds": 0.2}, {"multiply_adds": 1.0}) == ""
    assert unreachable(positions, {"multiply_adds": 0.1}, {"multiply_adds": 0.5}) == (
        "multiply-adds 0.1: no combination is that small at any of the input sizes; the least is "
        "about 0.120"
    )
    own = {"multiply_adds": 0.1}
    expected = "multiply-adds 0.1: no combination is that small; the least is 0.600"
    assert unreachable(positions, own, own) == expected
