"""The choice by measured latency."""

from types import SimpleNamespace

import pytest

pytest.importorskip("scipy")
from igcv3det.tasks.compress import front
from igcv3det.tasks.compress.candidates import Candidate
from igcv3det.tasks.compress.choice import Option
from igcv3det.tasks.compress.front import Point


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (0.04, 0.75),  # whole networks are slower than their parts promise
        (-0.04, 0.83),  # faster
        (0.0, 0.79),
    ],
)
def test_the_whole_network_keeps_the_budget_and_uses_it(monkeypatch, error, expected):
    def choose(search, budgets, size):
        share = round(budgets["latency"], 3)
        chosen = {"block3": Candidate("block3", f"of {share}", {})}
        return Point(budgets, chosen, {"latency": share}, loss=100 * (1 - share))

    monkeypatch.setattr(front, "choose_point", choose)
    monkeypatch.setattr(
        front, "measured_shares", lambda _, points: [p.costs["latency"] + error for p in points]
    )
    lines = []
    point = front.choose_measured(SimpleNamespace(say=lines.append), {"latency": 0.8})
    assert lines[0] == f"latency0.8: latency {0.8 + error:.3f}, predicted 0.800"
    assert point.costs["latency"] == pytest.approx(expected, abs=0.012)
    assert point.costs["latency"] + error <= 0.8
    assert point.budgets == {"latency": 0.8}


def test_budgets_without_latency_measure_nothing(monkeypatch):
    monkeypatch.setattr(front, "choose_point", lambda _, budgets, size: Point(budgets, {}, {}, 0.0))
    monkeypatch.setattr(front, "measured_shares", None)
    assert front.choose_measured(None, {"parameters": 0.5}).budgets == {"parameters": 0.5}


@pytest.mark.parametrize(
    ("least", "expected"),
    [(0.5, [0.5, *(0.5 + n / 48 for n in range(1, 25))]), (1.2, [1.2])],
)
def test_the_front_goes_from_the_least_to_the_original(monkeypatch, least, expected):
    """Restricted to blocks that are all slower than the original's, it is one point."""
    options = [(None, Option({"latency": least - 1}, 3.0)), (None, Option({"latency": 0.3}, 1.0))]
    search = SimpleNamespace(options_by_position=lambda: {"block3": options})
    monkeypatch.setattr(front, "choose_point", lambda _, budgets: budgets["latency"])
    assert front.front(search, "latency") == pytest.approx(expected, abs=2e-6)


def test_the_same_choice_is_not_timed_again(monkeypatch):
    chosen = {"block3": Candidate("block3", "any", {"changed": 1})}
    monkeypatch.setattr(
        front, "choose_point", lambda _, budgets, size: Point(budgets, chosen, {"latency": 0.7}, 1)
    )
    monkeypatch.setattr(front, "measured_shares", lambda _, points: [0.6])
    lines = []
    point = front.choose_measured(SimpleNamespace(say=lines.append), {"latency": 0.8})
    assert point.chosen == chosen
    assert lines == ["latency0.8: latency 0.600, predicted 0.700"]


@pytest.mark.parametrize(
    ("replaced", "expected"),
    [
        ([], ["stem", "stage1", "stage2", "stage3", "stage4", "stage5"]),
        (["head0", "block13", "last"], ["stem", "stage1", "stage2", "stage3", "stage4", "stage5"]),
        (["block4"], ["stem", "stage1", "stage2"]),  # the second block of stage 3
        (["stem"], []),
    ],
)
def test_the_leading_parts_that_nothing_replaced(replaced, expected):
    stages = [1, 2, 2, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 6, 6, 6, 7]
    blocks = tuple(SimpleNamespace(stage=stage) for stage in stages)
    search = SimpleNamespace(teacher=SimpleNamespace(blocks=blocks))
    names = ["stem", *(f"block{n}" for n in range(17)), "last", "head0"]
    chosen = {n: Candidate(n, "any", {"changed": 1} if n in replaced else {}) for n in names}
    assert front.unchanged_parts(search, Point({}, chosen, {}, 0.0)) == expected


@pytest.mark.parametrize(
    ("budgets", "measured", "expected"),
    [
        ({"latency": 0.9}, 0.996, "latency 0.9: not met, measured 0.996"),
        ({"latency": 0.9}, 0.909, ""),  # noise of the measurement
        ({"parameters": 0.9}, 1.2, ""),
    ],
)
def test_what_is_slower_than_its_budget(budgets, measured, expected):
    assert front.unmet(Point(budgets, {}, {}, 0.0), measured) == expected


def test_multiply_adds_that_another_input_size_does_not_keep():
    costs = {"multiply_adds": 0.448}
    budgets = {"latency": 0.5, "multiply_adds": 0.3}
    expected = "latency 0.5: not met, measured 0.600; multiply-adds 0.3: not met, 0.448"
    assert front.unmet(Point(budgets, {}, costs, 0.0, (240, 240)), 0.6) == expected
    assert front.unmet(Point(budgets, {}, {"multiply_adds": 0.3}, 0.0, (240, 240)), 0.4) == ""
