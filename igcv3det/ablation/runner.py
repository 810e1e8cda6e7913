"""Runs what of a plan is not done yet, and writes tables and curves after each run."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from igcv3det.ablation.costs import measure_costs
from igcv3det.ablation.curves import draw_curves
from igcv3det.ablation.plan import Experiment, Plan, data_fingerprint
from igcv3det.ablation.runs import Run, RunResult, runs_of, write_whole
from igcv3det.ablation.table import build_rows, comma_separated, markdown
from igcv3det.training.callbacks import NonFiniteLossError

logger = logging.getLogger(__name__)

MARKDOWN, CSV, COSTS = "table.md", "table.csv", "costs.json"


class Ablation:
    """A plan, its runs and what is written of them.

    Args:
        plan: what to run.
        output: folder of runs and tables.
        command: runs the whole plan; stands in the tables.

    Raises:
        OSError: the pictures are not there.
        ValueError: they cannot be used.
    """

    def __init__(self, plan: Plan, output: Path, command: str) -> None:
        self.plan, self.output, self.command = plan, output, command
        fingerprints: dict[str, str] = {}
        self.runs: dict[str, list[Run]] = {}
        for experiment in plan.experiments:
            settings = plan.settings(experiment)
            data = str(sorted(settings["data"].items()))
            if data not in fingerprints:
                fingerprints[data] = data_fingerprint(settings)
            self.runs[experiment.name] = runs_of(plan, experiment, fingerprints[data], output)

    def execute(self, experiments: Sequence[Experiment]) -> list[str]:
        """Runs what is not done, the first seed of all before the second of any.

        Args:
            experiments: which.

        Returns:
            A line for each run that could not be finished.
        """
        failures: list[str] = []
        wanted = [
            runs[turn]
            for turn in range(len(self.plan.seeds))
            for runs in (self.runs[experiment.name] for experiment in experiments)
        ]
        todo = [run for run in wanted if run.result() is None]
        logger.info("%d of %d runs are done already", len(wanted) - len(todo), len(wanted))
        for number, run in enumerate(todo, 1):
            logger.info("run %d of %d: %s", number, len(todo), run.folder)
            try:
                result = run.execute()
            except (OSError, ValueError, NonFiniteLossError) as error:
                failures.append(f"{run.name}: {str(error).strip().splitlines()[-1]}")
                logger.warning("failed: %s", failures[-1])
                continue
            logger.info("%s: top-1 %.4f", run.name, result.top1)
            self.write()
        if not todo:
            self.write()
        return failures

    def results(self) -> dict[str, list[RunResult]]:
        """Name of each experiment to its finished runs, in the order of the seeds."""
        found = {name: [run.result() for run in runs] for name, runs in self.runs.items()}
        return {name: [r for r in results if r is not None] for name, results in found.items()}

    def write(self, *, timed: bool = True) -> None:
        """Writes ``table.md``, ``table.csv`` and the curves.

        Args:
            timed: measure times where they are not known; else leave them out.
        """
        self.output.mkdir(parents=True, exist_ok=True)
        results = self.results()
        costs = measure_costs(self.plan, self.output / COSTS, timed=timed)
        rows = build_rows(self.plan, results, costs, self.command)
        write_whole(self.output / MARKDOWN, markdown(self.plan, rows, self.protocol()))
        write_whole(self.output / CSV, comma_separated(rows))
        draw_curves(self.plan, results, self.output)

    def protocol(self) -> str:
        """How every row is run, for the head of the tables."""
        base = self.plan.base
        trainer: dict[str, Any] = base["trainer"]
        epochs = trainer.get("max_epochs")
        length = f"{epochs} epochs" if epochs is not None else f"{trainer['max_steps']} steps"
        seeds = ", ".join(str(seed) for seed in self.plan.seeds)
        return (
            f"Every row: {length} in batches of {base['data'].get('batch_size', 128)}, precision "
            f"{trainer.get('precision', '32-true')}, seeds {seeds}; accuracy of the last epoch. "
            f"Latency: median for one picture in PyTorch on the CPU (threads: "
            f"{torch.get_num_threads()}), float32, in the execution that trains, all networks in "
            "turn. Images/s: trained on by the network, likewise in turn."
        )
