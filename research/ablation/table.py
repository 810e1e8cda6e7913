"""Results of runs as rows, and rows as Markdown and CSV."""

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
        experiment: which.
        top1: one share a finished run, in the order of the seeds.
        planned: how many runs there are to be.
        cost: of the network.
        command: makes this row.
    """

    experiment: Experiment
    top1: tuple[float, ...]
    planned: int
    cost: Cost
    command: str

    @property
    def mean(self) -> float | None:
        """Of top-1; None where nothing was run."""
        return statistics.fmean(self.top1) if self.top1 else None

    @property
    def spread(self) -> tuple[float, float] | None:
        """Least and greatest top-1; None for fewer than two runs."""
        return (min(self.top1), max(self.top1)) if len(self.top1) > 1 else None


def build_rows(
    plan: Plan,
    results: Mapping[str, Sequence[RunResult]],
    costs: Mapping[str, Cost],
    command: str,
) -> list[Row]:
    """A row for every experiment of a plan.

    Args:
        plan: the experiments.
        results: name to finished runs, none for an experiment that was not run.
        costs: name to costs.
        command: runs the whole plan; ``--only NAME`` is added.
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
    """Standard deviation of top-1 between seeds, pooled over all rows of two runs and more.

    Args:
        rows: of one protocol; its noise is taken to be the same in all of them.

    Returns:
        A share as ``top1`` is; None where no row has two runs.
    """
    repeated = [row.top1 for row in rows if len(row.top1) > 1]
    if not repeated:
        return None
    squares = sum((len(runs) - 1) * statistics.variance(runs) for runs in repeated)
    return math.sqrt(squares / sum(len(runs) - 1 for runs in repeated))


def markdown(plan: Plan, rows: Sequence[Row], protocol: str) -> str:
    """A table for each question, under its heading, in Markdown.

    Args:
        plan: title and questions.
        rows: of all experiments.
        protocol: how every row was run, in a sentence or two.
    """
    lines = [f"# {plan.title}", "", protocol]
    deviation = seed_deviation(rows)
    if deviation is not None:
        runs = len(plan.seeds)
        # a difference of means of n runs deviates by sqrt(2 / n) of what one run does
        least = 2 * deviation * math.sqrt(2 / runs)
        lines += [
            "",
            f"Noise: between seeds the standard deviation is {100 * deviation:.2f} points, pooled "
            f"over all rows. Two rows of {runs} runs are told apart (two standard errors) where "
            f"their means differ by {100 * least:.1f} points or more.",
        ]
    for key, heading in plan.questions.items():
        asked = [row for row in rows if key in row.experiment.questions]
        lines += ["", f"## {heading}", "", *_markdown_table(asked)]
    lines += ["", "Each row is made by", "", "```"]
    lines += [row.command for row in rows]
    return "\n".join([*lines, "```", ""])


def _markdown_table(rows: Sequence[Row]) -> list[str]:
    header = (
        "| | top-1, % | least to greatest | n | parameters | multiply-adds | latency, ms "
        "| images/s |"
    )
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
    """All rows once, with unrounded figures; empty where there is none."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        [
            *("name", "questions", "status", "top1_mean", "top1_min", "top1_max", "n", "planned"),
            *("parameters", "multiply_adds", "latency_ms", "images_per_second", "command"),
        ]
    )
    for row in rows:
        low, high = row.spread or (None, None)
        status = NOT_RUN if not row.top1 else "done" if len(row.top1) == row.planned else "part"
        writer.writerow(
            [
                row.experiment.name,
                " ".join(row.experiment.questions),
                status,
                *(row.mean, low, high, len(row.top1), row.planned),
                *(row.cost.parameters, row.cost.multiply_adds, row.cost.latency_ms),
                row.cost.images_per_second,
                row.command,
            ]
        )
    return text.getvalue()
