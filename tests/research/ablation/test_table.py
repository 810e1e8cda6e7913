"""Tables: means, ranges and noise against values computed by hand."""

import csv
import io
from pathlib import Path

import pytest

from igcv3det.io.images import read_image
from research.ablation.costs import Cost
from research.ablation.curves import draw_curves
from research.ablation.plan import Experiment, Plan
from research.ablation.runs import RunResult
from research.ablation.table import build_rows, comma_separated, markdown, seed_deviation

EXPERIMENTS = (
    Experiment("base", ("one", "two"), {}),
    Experiment("once", ("one",), {}),
    Experiment("never", ("two",), {}),
)
PLAN = Plan(Path("p.yaml"), "Title", (0, 1), {"one": "First?", "two": "Second?"}, {}, EXPERIMENTS)


def result(name, seed, top1):
    return RunResult(name, seed, "h", top1, 1.0, (0.1, top1), "2026-11-26", "a machine")


RESULTS = {
    "base": [result("base", 0, 0.50), result("base", 1, 0.53)],
    "once": [result("once", 0, 0.25)],
}
COSTS = {
    "base": Cost(1234, 2_500_000, 1.5, 120.4),
    "once": Cost(7, 8_000, None, None),
    "never": Cost(9, 9, 2.0, 30.0),
}


@pytest.fixture
def rows():
    return build_rows(PLAN, RESULTS, COSTS, "python tools/ablate.py")


def test_means_and_ranges_by_hand(rows):
    base, once, never = rows
    assert base.mean == pytest.approx(0.515)
    assert base.spread == (0.50, 0.53)
    assert (once.mean, once.spread) == (0.25, None)
    assert (never.mean, never.spread, never.top1) == (None, None, ())
    assert never.command == 'python tools/ablate.py --only "never"'


def test_markdown(rows):
    text = markdown(PLAN, rows, "Protocol.")
    lines = text.splitlines()
    assert lines[:3] == ["# Title", "", "Protocol."]
    base = "| base | 51.50 | 50.00 to 53.00 | 2 of 2 | 1,234 | 2.5 M | 1.50 | 120 |"
    assert lines.count(base) == 2  # in both groups
    assert "| once | 25.00 | - | 1 of 2 | 7 | 0.0 M | - | - |" in lines
    assert "| never | not run | - | 0 of 2 | 9 | 0.0 M | 2.00 | 30 |" in lines
    first, second = text.index("## First?"), text.index("## Second?")
    assert first < text.index("| once") < second < text.index("| never")
    assert 'python tools/ablate.py --only "once"' in lines


def test_pooled_noise_by_hand():
    results = {
        "base": [result("base", 0, 0.50), result("base", 1, 0.54)],  # variance 0.0008
        "once": [result("once", 0, 0.25)],  # a single run has no variance
        # variance 0.01, which counts twice
        "never": [result("never", seed, top1) for seed, top1 in enumerate((0.3, 0.4, 0.5))],
    }
    rows = build_rows(PLAN, results, COSTS, "python tools/ablate.py")
    # (0.0008 + 2 * 0.01) / 3 = 0.0069333, whose root is 0.083267
    assert seed_deviation(rows) == pytest.approx(0.083267, abs=1e-6)
    text = markdown(PLAN, rows, "Protocol.")
    # two seeds are planned: 2 * 8.3267 * sqrt(2 / 2)
    assert "standard deviation is 8.33 points" in text
    assert "(two standard errors) from 16.7 points on" in text
    assert seed_deviation(rows[1:2]) is None
    assert "Noise" not in markdown(PLAN, rows[1:2], "Protocol.")


def test_comma_separated(rows):
    base, once, never = csv.DictReader(io.StringIO(comma_separated(rows)))
    assert base["comparison_groups"] == "one two"
    assert float(base["top1_mean"]) == pytest.approx(0.515)
    assert [base["top1_min"], base["top1_max"]] == ["0.5", "0.53"]
    assert [row["status"] for row in (base, once, never)] == ["done", "part", "not run"]
    assert [never["top1_mean"], once["latency_ms"], once["images_per_second"]] == ["", "", ""]


def test_curves(tmp_path):
    images = draw_curves(PLAN, RESULTS, tmp_path)
    assert [path.name for path in images] == ["curves-one.png", "curves-two.png"]
    assert read_image(images[0]).std() > 5
    assert draw_curves(PLAN, {}, tmp_path) == []
