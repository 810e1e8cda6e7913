"""Accuracy over epochs as pictures, one for each question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from igcv3det.ablation.plan import Plan
from igcv3det.ablation.runs import RunResult


def draw_curves(plan: Plan, results: Mapping[str, Sequence[RunResult]], folder: Path) -> list[Path]:
    """Writes ``curves-QUESTION.png``: the mean over seeds, shaded from the least to the greatest.

    Args:
        plan: questions and experiments.
        results: name to finished runs.
        folder: where the pictures go; it must exist.

    Returns:
        The pictures; a question of which nothing was run has none.
    """
    pictures = []
    for key, heading in plan.questions.items():
        asked = [e.name for e in plan.experiments if key in e.questions and results.get(e.name)]
        if not asked:
            continue
        figure = Figure(figsize=(7, 4.5), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        for name in asked:
            curves = 100 * np.array([run.curve for run in results[name]])  # [n, epochs]
            epochs = np.arange(1, curves.shape[1] + 1)
            label = f"{name} (n = {len(curves)})"
            (line,) = axes.plot(epochs, curves.mean(0), marker="o", markersize=3, label=label)
            low, high = curves.min(0), curves.max(0)
            axes.fill_between(epochs, low, high, color=line.get_color(), alpha=0.2)
        axes.set(xlabel="epoch", ylabel="top-1 on the validation pictures, %", title=heading)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
        path = folder / f"curves-{key}.png"
        figure.savefig(path, dpi=110)
        pictures.append(path)
    return pictures
