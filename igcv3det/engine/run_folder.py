"""The folder of a run and the table of its metrics.

::

    runs/name/
      config.yaml       every option, as the run used it
      metrics.csv       one row a logged step
      checkpoints/      last.ckpt, best.ckpt, best.safetensors

Tasks add their own, such as images of predictions.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.cli import SaveConfigCallback
from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only

from igcv3det.atomic_files import atomic_write
from igcv3det.engine.parser import RunParser

CHECKPOINTS, CONFIG, METRICS = "checkpoints", "config.yaml", "metrics.csv"
STUDY = "tune"
"""Folder of a search for hyper-parameters, whose best run goes to the same run folder."""


def choose_run_folder(wanted: Path, ckpt_path: Path | None = None) -> Path:
    """Makes the folder that a run writes to, so that no earlier run is lost.

    A run that is resumed stays in its own folder, if that is ``wanted`` or one of its numbered
    followers. Otherwise a folder that holds something is not touched, and the first free one of
    ``name-2``, ``name-3`` ... is taken. Of runs that start at the same time each gets its own:
    making the folder of checkpoints decides.

    Args:
        wanted: the configured folder; need not exist.
        ckpt_path: the checkpoint to resume from.

    Raises:
        OSError: the folder cannot be made.
    """
    if ckpt_path is not None and (own := _own_folder(wanted, ckpt_path)) is not None:
        return own
    if rank_zero_only.rank != 0:  # type: ignore[attr-defined]
        return wanted  # the first process makes the folder, and writes to it
    folder, number = wanted, 2
    while not _is_claimed(folder):
        folder = wanted.with_name(f"{wanted.name}-{number}")
        number += 1
    return folder


def drop_if_empty(folder: Path) -> None:
    """Removes the folder of a run that has written nothing."""
    for empty in (folder / CHECKPOINTS, folder):
        try:
            empty.rmdir()
        except OSError:  # not empty, or not there
            return


def _own_folder(wanted: Path, ckpt_path: Path) -> Path | None:
    """The folder of the run that a checkpoint belongs to, if that is ``wanted`` or a follower."""
    checkpoints = ckpt_path.resolve().parent
    if checkpoints.name != CHECKPOINTS:
        return None
    own = checkpoints.parent
    if own.parent == wanted.resolve().parent and _is_run_of(own.name, wanted):
        return wanted.with_name(own.name)
    return None


def runs_of(wanted: Path) -> list[Path]:
    """The folder and the numbered ones that runs took because it was not empty."""
    return sorted(path for path in wanted.parent.iterdir() if _is_run_of(path.name, wanted))


def _is_run_of(name: str, wanted: Path) -> bool:
    first, _, number = name.rpartition("-")
    return name == wanted.name or (number.isdigit() and first == wanted.name)


def _is_claimed(folder: Path) -> bool:
    folder.mkdir(parents=True, exist_ok=True)
    if any(inner.name != STUDY for inner in folder.iterdir()):
        return False
    try:
        (folder / CHECKPOINTS).mkdir()
    except FileExistsError:  # by a run that started a moment ago
        return False
    return True


class RunConfig(SaveConfigCallback):
    """Writes ``config.yaml`` to the run folder, whatever loggers there are."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Writes the configuration once, in the first process."""
        if trainer.is_global_zero and not self.already_saved:
            assert isinstance(self.parser, RunParser)
            config = self.config.clone()
            config.ckpt_path = None  # who takes the file for another run does not resume this one
            text = self.parser.dump_all(config)
            atomic_write(Path(trainer.default_root_dir) / self.config_filename, text)
        self.already_saved = True


def log_step(trainer: Trainer) -> None:
    """Gives the tables the values of the step that ends; Lightning does so after its callbacks.

    A checkpoint saved by a callback would otherwise be ahead of the tables.
    """
    connector = trainer._logger_connector
    if trainer.fit_loop._should_accumulate() or not connector.should_update_logs:
        return
    metrics = {key: float(value) for key, value in connector.metrics["log"].items()}
    step = trainer.fit_loop.epoch_loop._batches_that_stepped
    for table in trainer.loggers:
        if isinstance(table, MetricsFile) and metrics:
            table.log_metrics({"epoch": trainer.current_epoch, **metrics}, step=step)


class MetricsFile(Logger):
    """``metrics.csv``: a row for each step that logged something, empty where it did not.

    Differs from Lightning's ``CSVLogger``: no ``version_0`` below the run folder, and a resumed run
    keeps the rows up to its checkpoint instead of deleting the file.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.path = folder / METRICS
        self._rows: list[dict[str, str]] = []
        self._columns = ["step", "epoch"]
        self._changed = False

    @property
    def name(self) -> str:
        """Empty: the file is in the run folder itself."""
        return ""

    @property
    def version(self) -> str:
        """Empty: the file is in the run folder itself."""
        return ""

    @property
    def save_dir(self) -> str:
        """The run folder."""
        return str(self.folder)

    @rank_zero_only
    def resume(self, step: int) -> None:
        """Reads the rows that the run wrote before optimizer step ``step``."""
        if not self.path.exists():
            return
        with self.path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            self._rows = [row for row in reader if int(row["step"]) < step]
            self._columns = list(reader.fieldnames or self._columns)

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Adds to the row of this step."""
        values = {key: f"{value:.6g}" for key, value in metrics.items()}
        number = str(step if step is not None else len(self._rows))
        if self._rows and self._rows[-1]["step"] == number:
            self._rows[-1].update(values)
        else:
            self._rows.append({"step": number, **values})
        self._columns += sorted(values.keys() - set(self._columns))
        self._changed = True

    @rank_zero_only
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        """They are in ``config.yaml``."""

    @rank_zero_only
    def save(self) -> None:
        """Writes the whole table, if it has changed."""
        if not self._changed:
            return
        text = io.StringIO()
        writer = csv.DictWriter(text, self._columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(self._rows)
        atomic_write(self.path, text.getvalue(), durable=False)
        self._changed = False

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Writes the rows since the last save."""
        self.save()
