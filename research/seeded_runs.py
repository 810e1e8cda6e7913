"""Training runs with several seeds; finished runs are not repeated."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from igcv3det.atomic_files import atomic_write
from igcv3det.engine.run_cli import RunCLI
from research.ablation.runs import resume_arguments

RESULT = "result.json"


def train_once(
    cli: type[RunCLI],
    arguments: Sequence[str],
    seed: int,
    folder: Path,
    summary: Callable[[Path, Path], Any],
) -> Any:  # noqa: ANN401
    """The result of a run, which is trained or resumed if it is not finished.

    Args:
        cli: command line of the training task.
        arguments: arguments of the run, without seed and folder.
        seed: random seed.
        folder: run folder; ``result.json`` in it means that the run is finished.
        summary: maps the run folder and its ``best.safetensors`` to the result to store.

    Raises:
        OSError: a file cannot be read.
        ValueError: data or weights do not match the configuration.
    """
    result = folder / RESULT
    if not result.exists():
        call = [
            *arguments,
            "--trainer.enable_progress_bar",
            "false",
            *resume_arguments(seed, folder),
        ]
        best = cli(call).fit()
        assert best is not None  # a single process
        atomic_write(result, json.dumps(summary(folder, best)))
    return json.loads(result.read_text(encoding="utf-8"))


def logged(folder: Path, name: str) -> list[float]:
    """All values of a metric in a run's ``metrics.csv``, in order."""
    with (folder / "metrics.csv").open(newline="", encoding="utf-8") as file:
        return [float(row[name]) for row in csv.DictReader(file) if row.get(name)]


def mean_and_range(values: Sequence[float], form: str = ".3f") -> str:
    """Mean and range as text: "0.600 (0.500 to 0.700)"; a single value has no range.

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
