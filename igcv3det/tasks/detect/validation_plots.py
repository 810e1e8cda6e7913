"""Plots of the best validation, at the end of a training."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers import TensorBoardLogger

from igcv3det.datasets.image_files import ImageFolder
from igcv3det.engine.checkpoints import RELEASE, BestCheckpoint
from igcv3det.evaluation.analysis import analyse
from igcv3det.evaluation.evaluator import ScoredDetections
from igcv3det.io.images import read_image

logger = logging.getLogger(__name__)

PLOTS = "plots"
"""Folder of the plots in a run folder."""


class ValidationPlots(Callback):
    """Draws the plots of ``igcv3det eval --plots`` once, when training ends.

    The detections of the best validation are kept until then, so that validations take no longer.

    Args:
        folder: where the plots go.
        monitor: name of the metric that chooses the best checkpoint, of which more is better.
    """

    def __init__(self, folder: Path, monitor: str) -> None:
        self.folder = folder
        self.monitor = monitor
        self._best: tuple[float, ScoredDetections, int] | None = None

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keeps the detections if they are at least as good as the best so far."""
        evaluator: Any = getattr(pl_module, "evaluator", None)
        if trainer.sanity_checking or evaluator is None or evaluator.scored is None:
            return
        value = float(trainer.callback_metrics.get(self.monitor, float("nan")))
        if value >= (self._best[0] if self._best else float("-inf")):
            self._best = (value, evaluator.scored, trainer.global_step)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draws; what goes wrong is a warning, as the trained weights do not depend on it."""
        if self._best is None:
            return
        value, scored, step = self._best
        kept = [own for own in trainer.callbacks if isinstance(own, BestCheckpoint)]  # type: ignore[attr-defined]
        score = kept[0].best_model_score if kept else None
        if score is not None and float(score) > value:
            logger.info(
                "no plots: the best validation was before this run was resumed; igcv3det eval "
                "--checkpoint %s --plots DIR draws them",
                RELEASE,
            )
            return
        try:
            files = self._draw(trainer, pl_module, scored)
        except (OSError, ValueError, ImportError) as error:
            logger.warning("no plots: %s", error)
            return
        for table in trainer.loggers:
            if isinstance(table, TensorBoardLogger):
                for file in files:
                    name, image = f"{PLOTS}/{file.stem}", read_image(file)
                    table.experiment.add_image(name, image, step, dataformats="HWC")

    def _draw(
        self, trainer: Trainer, pl_module: LightningModule, scored: ScoredDetections
    ) -> list[Path]:
        from igcv3det.plots.folder import write_plots

        evaluator: Any = pl_module.evaluator
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        truth = evaluator.ground_truth
        analysis = analyse(scored.rows, truth, scored.image_ids, evaluator.scored_ids)
        title = f"{self.folder.resolve().parent.name}: best validation"
        images = ImageFolder(data.splits.val.images, data.allow_outside)
        return write_plots(self.folder, analysis, scored.metrics, title, images)
