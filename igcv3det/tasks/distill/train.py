"""The command line of distillation: `tasks.detect.train` with another module and other data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pytorch_lightning.cli import LightningArgumentParser

from igcv3det.config import DetectorConfig, LossConfig, OptimConfig
from igcv3det.tasks.detect.train import DetectionCLI
from igcv3det.tasks.distill.config import DistillationConfig, ViewConfig
from igcv3det.tasks.distill.datamodule import DistillationDataModule
from igcv3det.tasks.distill.module import DistillationModule


class DistillationCLI(DetectionCLI):
    """Parses the command line and sets up student, teacher and images; `fit` trains."""

    module = DistillationModule
    data = DistillationDataModule
    configs: ClassVar = {
        "model.detector": DetectorConfig,
        "model.distillation": DistillationConfig,
        "model.loss": LossConfig,
        "model.optim": OptimConfig,
        "data.view": ViewConfig,
    }
    links: ClassVar[Sequence[tuple[str, str]]] = (
        ("seed_everything", "data.seed"),
        ("model.detector.preprocess.mean", "data.preprocess.mean"),
        ("model.detector.preprocess.std", "data.preprocess.std"),
        ("model.detector.preprocess.resize", "data.preprocess.resize"),
    )
    built_links: ClassVar[Sequence[tuple[str, str]]] = (("model.categories", "data.categories"),)
    program = ("distill", "Trains a detector to reproduce the outputs of a teacher.")
    best = ("val/loss", "min")

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Nothing is drawn: the images have no true boxes."""
        super().add_arguments_to_parser(parser)
        parser.set_defaults(logged_images=0)
