"""Trainings of several rows and seeds that are never repeated once they are finished."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from igcv3det.ablation.runs import write_whole
from igcv3det.training.checkpoints import LAST
from igcv3det.training.run_cli import RunCLI
from igcv3det.training.run_folder import CHECKPOINTS

RESULT = "result.json"


def train_once(
    cli: type[RunCLI],
    arguments: Sequence[str],
    seed: int,
    folder: Path,
    summary: Callable[[Path, Path], Any],
) -> Any:  # noqa: ANN401
    """What a run came to: it is made, finished from its last checkpoint, or found.

    Args:
        cli: trains.
        arguments: of the run, without seed and folder.
        seed: of the run.
        folder: of the run; ``result.json`` in it means that the run is finished.
        summary: from the run's folder and its ``best.safetensors`` to what is kept in that file.

    Raises:
        OSError: a file is not there.
        ValueError: data or weights do not fit.
    """
    result = folder / RESULT
    if not result.exists():
        call = [*arguments, "--seed_everything", str(seed)]
        call += ["--trainer.default_root_dir", str(folder)]
        call += ["--trainer.enable_progress_bar", "false"]
        last = folder / CHECKPOINTS / LAST
        if last.exists():
            call += ["--ckpt_path", str(last)]
        best = cli(call).fit()
        assert best is not None  # a single process
        write_whole(result, json.dumps(summary(folder, best)))
    return json.loads(result.read_text(encoding="utf-8"))


def logged(folder: Path, name: str) -> list[float]:
    """All values of a metric in a run's ``metrics.csv``, in order."""
    with (folder / "metrics.csv").open(newline="", encoding="utf-8") as file:
        return [float(row[name]) for row in csv.DictReader(file) if row.get(name)]


def mean_and_range(values: Sequence[float], form: str = ".3f") -> str:
    """As a table has it: "0.600 (0.500 to 0.700)"; one value stands alone.

    Example:
        >>> mean_and_range([0.5, 0.7])
        '0.600 (0.500 to 0.700)'
        >>> mean_and_range([2.25], ".1f")
        '2.2'
    """
    shown = f"{mean(values):{form}}"
    if len(values) == 1:
        return shown
    return f"{shown} ({min(values):{form}} to {max(values):{form}})"


def draw_curves(
    curves: Mapping[str, Sequence[Sequence[float]]], path: Path, ylabel: str, *, low: float | None
) -> None:
    """A picture of a metric over validations: mean over seeds, shaded from least to greatest.

    Args:
        curves: row to a curve for each seed; rows without one are left out.
        path: PNG to write.
        ylabel: what is drawn.
        low: where the axis begins; None as the curves need it.
    """
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for name, runs in curves.items():
        if not runs:
            continue
        values = np.array(runs)
        turns = np.arange(1, values.shape[1] + 1)
        label = f"{name} (n = {len(runs)})"
        (line,) = axes.plot(turns, values.mean(0), marker="o", markersize=3, label=label)
        axes.fill_between(turns, values.min(0), values.max(0), color=line.get_color(), alpha=0.2)
    axes.set(xlabel="validation", ylabel=ylabel, ylim=(low, None))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=110)
