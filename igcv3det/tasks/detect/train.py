"""The command line of detection training.

Image size and preprocessing are set under ``model.detector`` and handed to the data; the categories
come from the data and decide the number of classes. A run that starts from ``model.weights`` has
their description of the detector: a configuration sets only what it changes, and
`description.contradictions` may not be changed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from pytorch_lightning import LightningDataModule, LightningModule
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.cli import LightningArgumentParser

from igcv3det.checkpoint import load_detector, read_trained_config, save_detector
from igcv3det.config import (
    AugmentConfig,
    DetectorConfig,
    LossConfig,
    OptimConfig,
    config_from_dict,
    flatten,
)
from igcv3det.description import (
    FREE_FIELDS,
    FREE_IN_FINE_TUNING,
    contradictions,
    starting_config,
)
from igcv3det.engine.callbacks import FiniteLossGuard, ReportLines
from igcv3det.engine.ema import AveragedWeights
from igcv3det.engine.run_cli import RunCLI, plain_values
from igcv3det.engine.validation_images import IMAGES, add_images_option
from igcv3det.tasks.detect.callbacks import PredictionImages, target_image_ids
from igcv3det.tasks.detect.datamodule import CocoDataModule
from igcv3det.tasks.detect.module import DetectionModule
from igcv3det.tasks.detect.validation_plots import PLOTS, ValidationPlots

_NUM_CLASSES = "model.detector.num_classes"
_SHOWN_METRICS = ("val/AP", "val/AP50", "val/AP75", "val/score", "val/loss")


class DetectionCLI(RunCLI):
    """Parses the command line and sets up detector, data and trainer; `fit` trains.

    Args:
        args: as of the command line; None takes ``sys.argv``.
    """

    module: type[LightningModule] = DetectionModule
    data: type[LightningDataModule] = CocoDataModule
    configs: ClassVar[Mapping[str, type]] = {
        "model.detector": DetectorConfig,
        "model.loss": LossConfig,
        "model.optim": OptimConfig,
        "data.augment": AugmentConfig,
    }
    links: ClassVar[Sequence[tuple[str, str]]] = (
        ("seed_everything", "data.seed"),
        ("model.detector.image_size", "data.image_size"),
        ("model.detector.preprocess.mean", "data.preprocess.mean"),
        ("model.detector.preprocess.std", "data.preprocess.std"),
        ("model.detector.preprocess.resize", "data.preprocess.resize"),
    )
    built_links: ClassVar[Sequence[tuple[str, str]]] = (("data.categories", "model.categories"),)
    program = ("train", "Trains a detector.")
    best = ("val/AP", "max")
    minimums: ClassVar[Mapping[str, int]] = {**RunCLI.minimums, "logged_images": 0}
    renamed: ClassVar[Mapping[str, str]] = {
        **RunCLI.renamed,
        "model.keep_norm_statistics": "model.freeze_bn_stats",
        "pictures": "logged_images",
    }

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds the option of detection."""
        super().add_arguments_to_parser(parser)
        add_images_option(parser)
        parser.add_argument(
            "--plots",
            type=bool | None,
            default=None,
            help="Draw curves, errors and a report of the best validation at the end; null: if "
            "logged_images is not 0.",
        )

    def checkpoint_defaults(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The detector of the checkpoint that is resumed, or else of the weights.

        A file that is not there or cannot be read is reported when it is loaded.
        """
        trained = _trained_config(given)
        if trained is None:
            return {}
        if given.get("ckpt_path") is None:
            trained = starting_config(trained, given.get("model.detector.image_size"))
        fields = flatten(dataclasses.asdict(trained))
        return {f"model.detector.{key}": value for key, value in fields.items()}

    def before_instantiate_classes(self) -> None:
        """Checks the values, and that they do not contradict the weights.

        Raises:
            FileNotFoundError: there is no such checkpoint to resume from.
            SystemExit: status 2, a value out of range, or not that of the weights.
        """
        trained = _trained_config(self.given)
        if trained is not None:
            values = plain_values(self.config.model.detector)
            config = config_from_dict(DetectorConfig, values, "model.detector")
            free = FREE_FIELDS if self.config.ckpt_path else FREE_IN_FINE_TUNING
            if differing := contradictions(config, trained, free):
                source = self.config.ckpt_path or self.config.model.weights
                self.parser.error(
                    f"{source} was trained with model.detector {'; '.join(differing)}: leave "
                    "these keys out"
                )
        super().before_instantiate_classes()

    def after_model(self) -> None:
        """Puts the data's number of classes into the configuration.

        Raises:
            ValueError: another number was asked for.
        """
        number = self.model.detector.config.num_classes
        asked = self.given.get(_NUM_CLASSES, number)
        if asked != number:
            raise ValueError(
                f"{_NUM_CLASSES} is {asked}, but the data has {number} categories: pass "
                f"--{_NUM_CLASSES} {number}, or leave it out"
            )
        self.config.model.detector.num_classes = number

    def _own_callbacks(self, given: Any) -> list[Callback]:  # noqa: ANN401
        callbacks: list[Callback] = [FiniteLossGuard(target_image_ids), ReportLines(_SHOWN_METRICS)]
        decay = self.model.optim.ema_decay
        if decay is not None:
            callbacks.append(AveragedWeights(decay, "detector"))
        if self.config.logged_images > 0 and not given.fast_dev_run:
            folder = self.run_folder / IMAGES
            callbacks.append(PredictionImages(folder, self.config.logged_images))
        plots = self.config.plots
        if (self.config.logged_images > 0 if plots is None else plots) and not given.fast_dev_run:
            callbacks.append(ValidationPlots(self.run_folder / PLOTS, self.best[0]))
        return callbacks

    def _release(self, checkpoint: Path, target: Path) -> None:
        save_detector(load_detector(checkpoint), target)


def _trained_config(given: Mapping[str, Any]) -> DetectorConfig | None:
    """The detector of the checkpoint or the weights that a run starts from, if it is readable."""
    for key in ("ckpt_path", "model.weights"):
        if isinstance(given.get(key), str):
            try:
                return read_trained_config(given[key])[0]
            except (OSError, ValueError):
                return None
    return None
