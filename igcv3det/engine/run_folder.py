"""The folder of a run and the table of its metrics.

::

    runs/name/
      config.yaml       everything the run was started with
      metrics.csv       one row a logged step
      checkpoints/      last.ckpt, best.ckpt, best.safetensors
      images/         ground truth and predictions, a folder an epoch
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only

CHECKPOINTS, IMAGES = "checkpoints", "images"


def choose_run_folder(wanted: Path, ckpt_path: Path | None = None) -> Path:
    """Where a run writes, so that no earlier run is lost.

    A run that is resumed goes on in its own folder, if that is ``wanted`` or one of its numbered
    followers. Otherwise a folder that holds something already is left alone and the first free one
    of ``name-2``, ``name-3`` ... is taken.

    Args:
        wanted: the configured folder; need not exist.
        ckpt_path: the checkpoint to resume from.
    """
    wanted = Path(wanted)
    if ckpt_path is not None and ckpt_path.resolve().parent.name == CHECKPOINTS:
        own = ckpt_path.resolve().parent.parent
        name, _, number = own.name.rpartition("-")
        follows = number.isdigit() and name == wanted.name
        if own.parent == wanted.resolve().parent and (own.name == wanted.name or follows):
            return wanted.with_name(own.name)
    folder, number_next = wanted, 2
    while folder.exists() and any(folder.iterdir()):
        folder = wanted.with_name(f"{wanted.name}-{number_next}")
        number_next += 1
    return folder


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
        self.path = folder / "metrics.csv"
        self._rows: list[dict[str, str]] = []
        self._columns = ["step", "epoch"]
        self._changed = False

    @property
    def name(self) -> str:
        """Nothing below the run folder."""
        return ""

    @property
    def version(self) -> str:
        """Nothing below the run folder."""
        return ""

    @property
    def save_dir(self) -> str:
        """The run folder; Lightning puts ``config.yaml`` there."""
        return str(self.folder)

    @rank_zero_only
    def resume(self, step: int) -> None:
        """Takes up the rows that the run wrote before optimizer step ``step``."""
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
        """Writes the whole table, beside the old one first, so that a kill leaves one of both."""
        if not self._changed:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_name(self.path.name + ".partial")
        with partial.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self._columns, restval="", lineterminator="\n")
            writer.writeheader()
            writer.writerows(self._rows)
        partial.replace(self.path)
        self._changed = False

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Writes what is left."""
        self.save()
