"""The command line of distillation: that of detection with another module and other data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from jsonargparse import Namespace
from pytorch_lightning.cli import LightningArgumentParser

from igcv3det.checkpoint import read_trained_config
from igcv3det.config import DetectorConfig, LossConfig, OptimConfig
from igcv3det.tasks.detect.train import DetectionCLI
from igcv3det.tasks.distill.config import CropConfig, DistillationConfig
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
        "data.crop": CropConfig,
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
    # literals: the command line reads them without importing this module
    renamed: ClassVar = {
        **DetectionCLI.renamed,
        "model.reference_runtime": "model.teacher_runtime",
        "data.view": "data.crop",
        "data.view.size": "data.crop.size",
        "data.view.min_scale": "data.crop.min_scale",
        "data.view.max_scale": "data.crop.max_scale",
        "data.view.max_aspect": "data.crop.max_aspect",
        "data.view.flip": "data.crop.flip",
        "data.view.colour": "data.crop.colour",
    }

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Draws no images by default: most have no true boxes."""
        super().add_arguments_to_parser(parser)
        parser.set_defaults(logged_images=0)

    def _config_to_instantiate(self) -> Namespace:
        """A resumed student is as its checkpoint describes it; nothing is copied or inserted.

        Its anchors may have come from ``model.weights``, which are not read again.

        Raises:
            ValueError: the checkpoint describes no detector.
        """
        config = super()._config_to_instantiate()
        if config.ckpt_path is not None:
            student, _ = read_trained_config(config.ckpt_path)
            config.model.detector.anchors.trained_size = student.anchors.trained_size
            config.model.distillation.start = "random"
            config.model.distillation.copied = ()
        return config
