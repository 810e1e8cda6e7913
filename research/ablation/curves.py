"""Learning curves, one line per experiment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from research.ablation.plan import Plan
from research.ablation.runs import RunResult


def draw_curves(plan: Plan, results: Mapping[str, Sequence[RunResult]], folder: Path) -> list[Path]:
    """Writes ``curves-GROUP.png``, top-1 over epochs, for each comparison group.

    Args:
        plan: comparison groups and experiments.
        results: finished runs by name of the experiment.
        folder: folder for the images; it must exist.

    Returns:
        Paths of the images; a group without finished runs has none.
    """
    images = []
    for key, heading in plan.comparison_groups.items():
        members = [
            e.name for e in plan.experiments if key in e.comparison_groups and results.get(e.name)
        ]
        if not members:
            continue
        curves = {name: [100 * np.array(run.curve) for run in results[name]] for name in members}
        path = folder / f"curves-{key}.png"
        draw_means(curves, path, ("epoch", "top-1 on the validation images, %"), title=heading)
        images.append(path)
    return images


def draw_means(
    curves: Mapping[str, Sequence[Sequence[float] | np.ndarray]],
    path: Path,
    labels: tuple[str, str],
    *,
    title: str = "",
    low: float | None = None,
) -> None:
    """Draws the mean over seeds of each curve, with the range shaded.

    Args:
        curves: by name, a curve for each seed, all of one length; names without curves are omitted.
        path: PNG file to write.
        labels: labels of the x and y axes.
        title: title of the plot.
        low: lower end of the y axis; None chooses it from the curves.
    """
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for name, runs in curves.items():
        if not runs:
            continue
        values = np.array(runs)  # [n, points]
        steps = np.arange(1, values.shape[1] + 1)
        label = f"{name} (n = {len(runs)})"
        (line,) = axes.plot(steps, values.mean(0), marker="o", markersize=3, label=label)
        axes.fill_between(steps, values.min(0), values.max(0), color=line.get_color(), alpha=0.2)
    axes.set(xlabel=labels[0], ylabel=labels[1], title=title, ylim=(low, None))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=110)
