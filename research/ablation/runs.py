"""One run of one experiment: its folder, its training and its result."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from igcv3det.atomic_files import atomic_write
from igcv3det.engine.checkpoints import LAST
from igcv3det.engine.run_folder import CHECKPOINTS
from igcv3det.measure.machine import describe_machine
from igcv3det.tasks.classify.train import ClassificationCLI
from igcv3det.yaml_files import dump_yaml
from research.ablation.plan import Experiment, Plan, run_hash

RESULTS, RUNS = "results", "runs"


@dataclass(frozen=True)
class RunResult:
    """Result of a finished run.

    Attributes:
        name: name of the experiment.
        seed: seed of the run.
        hash: hash of settings, seed and images.
        top1: top-1 validation accuracy of the last epoch; that of the best epoch is biased.
        top5: top-5 validation accuracy of the last epoch.
        curve: top-1 after each epoch.
        date: date on which it finished, YYYY-MM-DD.
        machine: processor and PyTorch version.
    """

    name: str
    seed: int
    hash: str
    top1: float
    top5: float
    curve: tuple[float, ...]
    date: str
    machine: str


@dataclass(frozen=True)
class Run:
    """An experiment with a seed.

    Attributes:
        plan: plan of the experiment.
        experiment: experiment to run.
        seed: random seed.
        hash: identifies the run.
        output: output folder of the plan. Its ``results`` are small and can be copied from another
            machine; its ``runs`` are only needed for unfinished runs.
    """

    plan: Plan
    experiment: Experiment
    seed: int
    hash: str
    output: Path

    @property
    def name(self) -> str:
        """Name of the run's folder."""
        return f"{self.experiment.slug}-seed{self.seed}-{self.hash}"

    @property
    def folder(self) -> Path:
        """Run folder."""
        return self.output / RUNS / self.name

    @property
    def file(self) -> Path:
        """File of the result, which exists once the run is finished."""
        return self.output / RESULTS / f"{self.name}.json"

    def result(self) -> RunResult | None:
        """The result; None for an unfinished run.

        Raises:
            ValueError: the file is damaged.
        """
        try:
            text = self.file.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        try:
            values = json.loads(text)
            return RunResult(**{**values, "curve": tuple(values["curve"])})
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{self.file}: not the result of a run: {error}") from error

    def execute(self) -> RunResult:
        """Trains from the start, or from the last checkpoint of an interrupted call.

        Raises:
            OSError: a file cannot be read or written.
            ValueError: the settings or the data set cannot be used.
            NonFiniteLossError: the training diverged.
        """
        arguments = ["--config", str(self._write_settings())]
        ClassificationCLI(arguments + resume_arguments(self.seed, self.folder)).fit()
        curve = _curve(self.folder / "metrics.csv")
        result = RunResult(
            self.experiment.name,
            self.seed,
            self.hash,
            top1=curve[-1][0],
            top5=curve[-1][1],
            curve=tuple(top1 for top1, _ in curve),
            date=datetime.now(UTC).date().isoformat(),
            machine=describe_machine(),
        )
        # written last: its presence means that the run is finished
        atomic_write(self.file, json.dumps(asdict(result), indent=1))
        return result

    def _write_settings(self) -> Path:
        file = self.output / RUNS / f"{self.name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        settings = self.plan.settings(self.experiment)
        file.write_text(dump_yaml(settings), encoding="utf-8")
        return file


def runs_of(plan: Plan, experiment: Experiment, fingerprint: str, output: Path) -> list[Run]:
    """The runs of an experiment, one per seed.

    Args:
        plan: plan of the experiment.
        experiment: experiment to run.
        fingerprint: `data_fingerprint` of the images.
        output: output folder of the plan.
    """
    settings = plan.settings(experiment)
    return [
        Run(plan, experiment, seed, run_hash(settings, seed, fingerprint), output)
        for seed in plan.seeds
    ]


def resume_arguments(seed: int, folder: Path) -> list[str]:
    """Options of a training command that start a run in a folder, or resume it.

    A run without a checkpoint is deleted and starts again.

    Args:
        seed: random seed.
        folder: run folder.
    """
    last = folder / CHECKPOINTS / LAST
    options = ["--seed_everything", str(seed), "--trainer.default_root_dir", str(folder)]
    if last.exists():
        return [*options, "--ckpt_path", str(last)]
    shutil.rmtree(folder, ignore_errors=True)
    return options


def _curve(metrics: Path) -> list[tuple[float, float]]:
    """(top-1, top-5) after each epoch.

    Raises:
        ValueError: there was no validation.
    """
    with metrics.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row.get("val/top1")]
    if not rows:
        raise ValueError(f"{metrics}: the run has no validation; check the plan's trainer")
    return [(float(row["val/top1"]), float(row["val/top5"])) for row in rows]
