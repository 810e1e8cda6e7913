"""A metric over the course of training as an image, a line for each experiment."""

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
    """Writes ``curves-QUESTION.png``, top-1 over epochs.

    Args:
        plan: questions and experiments.
        results: name to finished runs.
        folder: where the images go; it must exist.

    Returns:
        The images; a question of which nothing was run has none.
    """
    images = []
    for key, heading in plan.questions.items():
        asked = [e.name for e in plan.experiments if key in e.questions and results.get(e.name)]
        if not asked:
            continue
        curves = {name: [100 * np.array(run.curve) for run in results[name]] for name in asked}
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
    """Draws means over seeds, shaded from the least to the greatest.

    Args:
        curves: name to a curve for each seed, all of one length; names without one are left out.
        path: PNG to write.
        labels: of the axes, x and y.
        title: over the image.
        low: where the vertical axis begins; None as the curves need it.
    """
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for name, runs in curves.items():
        if not runs:
            continue
        values = np.array(runs)  # [n, points]
        turns = np.arange(1, values.shape[1] + 1)
        label = f"{name} (n = {len(runs)})"
        (line,) = axes.plot(turns, values.mean(0), marker="o", markersize=3, label=label)
        axes.fill_between(turns, values.min(0), values.max(0), color=line.get_color(), alpha=0.2)
    axes.set(xlabel=labels[0], ylabel=labels[1], title=title, ylim=(low, None))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=110)
