"""The command line of detection training; what is not detection's own is `engine.run_cli`'s.

One fact has one key. The image size and the preprocessing stand under ``model.detector`` and are
handed to the data; the categories come from the data and are handed to the model; the seed is one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from pytorch_lightning import LightningDataModule, LightningModule
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.cli import LightningArgumentParser

from igcv3det.config import (
    AugmentConfig,
    DetectorConfig,
    LossConfig,
    OptimConfig,
    PreprocessConfig,
)
from igcv3det.engine.callbacks import FiniteLossGuard, ReportLines
from igcv3det.engine.checkpoints import release_detector
from igcv3det.engine.ema import AveragedWeights
from igcv3det.engine.run_cli import RunCLI
from igcv3det.engine.run_folder import IMAGES
from igcv3det.tasks.detect.callbacks import PredictionImages, target_image_ids
from igcv3det.tasks.detect.datamodule import CocoDataModule
from igcv3det.tasks.detect.module import DetectionModule


class DetectionCLI(RunCLI):
    """Parses the command line and sets up detector, data and trainer; `fit` trains.

    Args:
        args: as of the command line; None takes ``sys.argv``.

    Attributes:
        run_folder: where the results go.
    """

    module: type[LightningModule] = DetectionModule
    data: type[LightningDataModule] = CocoDataModule
    configs: ClassVar[Mapping[str, type]] = {
        "model.detector": DetectorConfig,
        "model.loss": LossConfig,
        "model.optim": OptimConfig,
        "data.augment": AugmentConfig,
    }
    program = ("train_det", "Trains a detector.")
    best = ("val/AP", "max")

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The option of detection."""
        super().add_arguments_to_parser(parser)
        parser.add_argument(
            "--images", type=int, default=8, help="Validation images drawn after each epoch."
        )

    def link(self, parser: LightningArgumentParser) -> None:
        """One fact, one key."""
        parser.link_arguments("model.detector.image_size", "data.image_size")
        for field in dataclasses.fields(PreprocessConfig):  # as a whole it cannot be linked
            key = f"preprocess.{field.name}"
            parser.link_arguments(f"model.detector.{key}", f"data.{key}")
        parser.link_arguments("seed_everything", "data.seed")
        parser.link_arguments("data.categories", "model.categories", apply_on="instantiate")

    def _own_callbacks(self, given: Any) -> list[Callback]:  # noqa: ANN401
        callbacks: list[Callback] = [FiniteLossGuard(target_image_ids), ReportLines()]
        decay = self.model.optim.ema_decay
        if decay is not None:
            callbacks.append(AveragedWeights(decay))
        if self.config.images > 0 and not given.fast_dev_run:
            folder = self.run_folder / IMAGES
            callbacks.append(PredictionImages(folder, self.config.images))
        return callbacks

    def _release(self, checkpoint: Path, target: Path) -> None:
        release_detector(checkpoint, target)
