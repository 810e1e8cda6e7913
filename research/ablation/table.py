"""Tables of the results, as Markdown and CSV."""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from research.ablation.costs import Cost
from research.ablation.plan import Experiment, Plan
from research.ablation.runs import RunResult

NOT_RUN = "not run"


class Row(NamedTuple):
    """One experiment, over its seeds.

    Attributes:
        experiment: the experiment.
        top1: accuracy in 0..1 of each finished run, in the order of the seeds.
        planned: number of planned runs.
        cost: cost of the network.
        command: command line that makes this row.
    """

    experiment: Experiment
    top1: tuple[float, ...]
    planned: int
    cost: Cost
    command: str

    @property
    def mean(self) -> float | None:
        """Mean top-1 accuracy; None without finished runs."""
        return statistics.fmean(self.top1) if self.top1 else None

    @property
    def spread(self) -> tuple[float, float] | None:
        """Lowest and highest top-1 accuracy; None for fewer than two runs."""
        return (min(self.top1), max(self.top1)) if len(self.top1) > 1 else None


def build_rows(
    plan: Plan,
    results: Mapping[str, Sequence[RunResult]],
    costs: Mapping[str, Cost],
    command: str,
) -> list[Row]:
    """One row for every experiment of a plan.

    Args:
        plan: experiments.
        results: finished runs by name of the experiment.
        costs: cost by name of the experiment.
        command: command line that runs the whole plan; ``--only NAME`` is added.
    """
    rows = []
    for experiment in plan.experiments:
        runs = results.get(experiment.name, ())
        rows.append(
            Row(
                experiment,
                tuple(run.top1 for run in runs),
                len(plan.seeds),
                costs[experiment.name],
                f'{command} --only "{experiment.name}"',
            )
        )
    return rows


def seed_deviation(rows: Sequence[Row]) -> float | None:
    """Standard deviation of top-1 between seeds, pooled over all rows with at least two runs.

    Args:
        rows: rows of one protocol, whose noise is assumed to be equal.

    Returns:
        Deviation in the unit of ``top1``; None if no row has two runs.
    """
    repeated = [row.top1 for row in rows if len(row.top1) > 1]
    if not repeated:
        return None
    squares = sum((len(runs) - 1) * statistics.variance(runs) for runs in repeated)
    return math.sqrt(squares / sum(len(runs) - 1 for runs in repeated))


def markdown(plan: Plan, rows: Sequence[Row], protocol: str) -> str:
    """A Markdown table for each comparison group, under its heading.

    Args:
        plan: title and comparison groups.
        rows: rows of all experiments.
        protocol: training protocol of all rows, in a sentence or two.
    """
    lines = [f"# {plan.title}", "", protocol]
    deviation = seed_deviation(rows)
    if deviation is not None:
        runs = len(plan.seeds)
        # standard error of a difference of two means of n runs: sqrt(2 / n) of the deviation
        least = 2 * deviation * math.sqrt(2 / runs)
        lines += [
            "",
            f"Noise: between seeds the standard deviation is {100 * deviation:.2f} points, pooled "
            f"over all rows. The means of two rows of {runs} runs differ significantly (two "
            f"standard errors) from {100 * least:.1f} points on.",
        ]
    for key, heading in plan.comparison_groups.items():
        members = [row for row in rows if key in row.experiment.comparison_groups]
        lines += ["", f"## {heading}", "", *_markdown_table(members)]
    lines += ["", "Commands of the rows:", "", "```"]
    lines += [row.command for row in rows]
    return "\n".join([*lines, "```", ""])


def _markdown_table(rows: Sequence[Row]) -> list[str]:
    header = "| | top-1, % | range | n | parameters | multiply-adds | latency, ms | images/s |"
    lines = [header, "|---|---:|---:|---:|---:|---:|---:|---:|"]
    for row in rows:
        mean = NOT_RUN if row.mean is None else f"{100 * row.mean:.2f}"
        spread = (
            "-"
            if row.spread is None
            else "{:.2f} to {:.2f}".format(*(100 * share for share in row.spread))
        )
        cells = [
            row.experiment.name,
            mean,
            spread,
            f"{len(row.top1)} of {row.planned}",
            f"{row.cost.parameters:,}",
            f"{row.cost.multiply_adds / 1e6:.1f} M",
            "-" if row.cost.latency_ms is None else f"{row.cost.latency_ms:.2f}",
            "-" if row.cost.images_per_second is None else f"{row.cost.images_per_second:.0f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def comma_separated(rows: Sequence[Row]) -> str:
    """All rows once as CSV, with unrounded numbers; unknown values are empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        [
            *("name", "comparison_groups", "status", "top1_mean", "top1_min", "top1_max"),
            *("n", "planned"),
            *("parameters", "multiply_adds", "latency_ms", "images_per_second", "command"),
        ]
    )
    for row in rows:
        low, high = row.spread or (None, None)
        status = NOT_RUN if not row.top1 else "done" if len(row.top1) == row.planned else "part"
        writer.writerow(
            [
                row.experiment.name,
                " ".join(row.experiment.comparison_groups),
                status,
                *(row.mean, low, high, len(row.top1), row.planned),
                *(row.cost.parameters, row.cost.multiply_adds, row.cost.latency_ms),
                row.cost.images_per_second,
                row.command,
            ]
        )
    return text.getvalue()
