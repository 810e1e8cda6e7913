"""Executes the unfinished runs of a plan; writes tables and curves after each run."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import torch

from igcv3det.atomic_files import atomic_write
from igcv3det.engine.callbacks import NonFiniteLossError
from igcv3det.engine.malloc import tune_malloc
from research.ablation.costs import Costs, measure_costs
from research.ablation.curves import draw_curves
from research.ablation.plan import Experiment, Plan, data_fingerprint
from research.ablation.runs import Run, RunResult, runs_of
from research.ablation.table import build_rows, comma_separated, markdown

logger = logging.getLogger(__name__)

MARKDOWN, CSV, COSTS = "table.md", "table.csv", "costs.json"
FAILURES = (OSError, ValueError, NonFiniteLossError)


class Ablation:
    """The runs of a plan, with their tables and curves.

    Args:
        plan: experiments.
        output: folder for runs and tables.
        command: command line that runs the whole plan, printed in the tables.

    Raises:
        OSError: the images are not there.
        ValueError: the data set cannot be used.
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

    def execute(self, experiments: Sequence[Experiment], jobs: int = 1) -> list[str]:
        """Executes unfinished runs, all experiments with the first seed before the second seed.

        Args:
            experiments: experiments to run.
            jobs: number of runs at a time, each in its own process with its share of the threads;
                its output goes to a file beside its folder. For small networks the total is faster
                than one run after another with all threads.

        Returns:
            One line for each run that could not be finished.
        """
        failures: list[str] = []
        wanted = [
            runs[index]
            for index in range(len(self.plan.seeds))
            for runs in (self.runs[experiment.name] for experiment in experiments)
        ]
        todo = [run for run in wanted if run.result() is None]
        logger.info("%d of %d runs are already finished", len(wanted) - len(todo), len(wanted))
        for run, outcome in _in_parallel(todo, jobs) if jobs > 1 else _one_by_one(todo):
            if isinstance(outcome, Exception):
                failures.append(f"{run.name}: {str(outcome).strip().splitlines()[-1]}")
                logger.warning("failed: %s", failures[-1])
                continue
            logger.info("%s: top-1 %.4f", run.name, outcome.top1)
            self.write(timed=jobs == 1)  # no timing while other runs train
        if not todo or jobs > 1:
            self.write()
        return failures

    def results(self) -> dict[str, list[RunResult]]:
        """Finished runs by name of the experiment, in the order of the seeds."""
        found = {name: [run.result() for run in runs] for name, runs in self.runs.items()}
        return {name: [r for r in results if r is not None] for name, results in found.items()}

    def write(self, *, timed: bool = True) -> None:
        """Writes ``table.md``, ``table.csv`` and the curves.

        Args:
            timed: measure times that are not known yet; otherwise they are omitted.
        """
        self.output.mkdir(parents=True, exist_ok=True)
        results = self.results()
        costs = measure_costs(self.plan, self.output / COSTS, timed=timed)
        rows = build_rows(self.plan, results, costs.by_name, self.command)
        protocol = self._protocol(results, costs)
        atomic_write(self.output / MARKDOWN, markdown(self.plan, rows, protocol))
        atomic_write(self.output / CSV, comma_separated(rows))
        draw_curves(self.plan, results, self.output)

    def _protocol(self, results: dict[str, list[RunResult]], costs: Costs) -> str:
        """The training protocol of all rows, for the head of the tables."""
        base = self.plan.base
        trainer: dict[str, Any] = base["trainer"]
        epochs = trainer.get("max_epochs")
        length = f"{epochs} epochs" if epochs is not None else f"{trainer['max_steps']} steps"
        seeds = ", ".join(str(seed) for seed in self.plan.seeds)
        done = [run for runs in results.values() for run in runs]
        dates = sorted({run.date for run in done})
        where = "; ".join(sorted({run.machine for run in done}))
        when = " to ".join(dict.fromkeys((dates[0], dates[-1]))) if dates else ""
        trained = f" Trained on {where}, {when}." if done else ""
        return (
            f"Every row: {length} in batches of {base['data'].get('batch_size', 128)}, precision "
            f"{trainer.get('precision', '32-true')}, seeds {seeds}; accuracy of the last epoch."
            f"{trained} Latency: median for one image in PyTorch on the CPU (threads: "
            f"{torch.get_num_threads()}), float32, with the conv_impl of training, all networks in "
            "turn. Images/s: training speed of the network, also in turn."
            + (f" Both: {costs.measured}." if costs.measured else "")
        )


def _one_by_one(runs: Sequence[Run]) -> Iterator[tuple[Run, RunResult | Exception]]:
    """Executes runs one after another; yields each with its result or the error that ended it."""
    for number, run in enumerate(runs, 1):
        logger.info("run %d of %d: %s", number, len(runs), run.folder)
        yield run, _outcome(run.execute)


def _in_parallel(runs: Sequence[Run], jobs: int) -> Iterator[tuple[Run, RunResult | Exception]]:
    """Executes several runs at a time; yields them in the order in which they end."""
    threads = max(1, torch.get_num_threads() // jobs)
    with ThreadPoolExecutor(jobs) as pool:
        waiting = {pool.submit(_in_own_process, run, threads): run for run in runs}
        try:
            for future in as_completed(waiting):
                yield waiting[future], _outcome(future.result)
        finally:  # on an interrupt no further run starts
            pool.shutdown(cancel_futures=True)


def _outcome(call: Callable[[], RunResult]) -> RunResult | Exception:
    try:
        return call()
    except FAILURES as error:
        return error


def _in_own_process(run: Run, threads: int) -> RunResult:
    # a forked process would lack the threads of PyTorch
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as process:
        return process.submit(_execute_logged, run, threads).result()


def _execute_logged(run: Run, threads: int) -> RunResult:
    """Executes one run, its output going to a log file."""
    torch.set_num_threads(threads)
    tune_malloc()
    log = run.folder.with_name(f"{run.name}.log")
    log.parent.mkdir(parents=True, exist_ok=True)
    with (
        log.open("a", encoding="utf-8") as file,
        contextlib.redirect_stdout(file),
        contextlib.redirect_stderr(file),
    ):
        return run.execute()
