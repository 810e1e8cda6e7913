"""The command line of segmentation training.

Input size, mean and deviation are set under ``model.segmenter`` and handed to the data; the classes
come from the data. A run that starts from ``model.weights`` has their backbone: a configuration
sets only what it changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from pytorch_lightning.callbacks import Callback
from pytorch_lightning.cli import LightningArgumentParser

from igcv3det.config import OptimConfig
from igcv3det.engine.callbacks import FiniteLossGuard, ReportLines
from igcv3det.engine.ema import AveragedWeights
from igcv3det.engine.run_cli import RunCLI
from igcv3det.engine.validation_images import IMAGES, add_images_option
from igcv3det.tasks.segment.batches import MaskBatch
from igcv3det.tasks.segment.callbacks import MaskImages
from igcv3det.tasks.segment.checkpoint import load_segmenter, save_segmenter
from igcv3det.tasks.segment.config import (
    DecayConfig,
    MaskAugmentConfig,
    PixelLossConfig,
    SegmenterConfig,
)
from igcv3det.tasks.segment.datamodule import MaskDataModule
from igcv3det.tasks.segment.module import SegmentationModule
from igcv3det.tasks.segment.start import starting_fields

_NUM_CLASSES = "model.segmenter.num_classes"


class SegmentationCLI(RunCLI):
    """Parses the command line and sets up segmenter, data and trainer; `fit` trains.

    Args:
        args: as of the command line; None takes ``sys.argv``.
    """

    module = SegmentationModule
    data = MaskDataModule
    configs: ClassVar[Mapping[str, type]] = {
        "model.segmenter": SegmenterConfig,
        "model.loss": PixelLossConfig,
        "model.optim": OptimConfig,
        "model.schedule": DecayConfig,
        "data.augment": MaskAugmentConfig,
    }
    links: ClassVar[Sequence[tuple[str, str]]] = (
        ("seed_everything", "data.seed"),
        ("model.segmenter.image_size", "data.image_size"),
        ("model.segmenter.mean", "data.mean"),
        ("model.segmenter.std", "data.std"),
    )
    built_links: ClassVar[Sequence[tuple[str, str]]] = (
        ("data.class_labels", "model.classes"),
        ("data.pixels", "model.pixels"),
    )
    program = ("train --task segment", "Trains a segmenter.")
    best = ("val/mIoU", "max")
    minimums: ClassVar[Mapping[str, int]] = {**RunCLI.minimums, "logged_images": 0}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds the option of segmentation."""
        super().add_arguments_to_parser(parser)
        add_images_option(parser)

    def checkpoint_defaults(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The network of the checkpoint that is resumed, or else the backbone of the weights.

        A file that is not there or cannot be read is reported when it is loaded.
        """
        for key in ("ckpt_path", "model.weights"):
            if isinstance(given.get(key), str):
                try:
                    fields = starting_fields(given[key])
                except (OSError, ValueError):
                    return {}
                return {f"model.segmenter.{name}": value for name, value in fields.items()}
        return {}

    def after_model(self) -> None:
        """Puts the data's number of classes into the configuration.

        Raises:
            ValueError: another number was asked for.
        """
        number = self.model.segmenter.config.num_classes
        asked = self.given.get(_NUM_CLASSES, number)
        if asked != number:
            raise ValueError(
                f"{_NUM_CLASSES} is {asked}, but the data has {number} classes: leave it out"
            )
        self.config.model.segmenter.num_classes = number

    def _own_callbacks(self, given: Any) -> list[Callback]:  # noqa: ANN401
        callbacks: list[Callback] = [
            FiniteLossGuard(_positions),
            ReportLines(("val/mIoU", "val/loss")),
        ]
        decay = self.model.optim.ema_decay
        if decay is not None:
            callbacks.append(AveragedWeights(decay, "segmenter"))
        if self.config.logged_images > 0 and not given.fast_dev_run:
            callbacks.append(MaskImages(self.run_folder / IMAGES, self.config.logged_images))
        return callbacks

    def _release(self, checkpoint: Path, target: Path) -> None:
        save_segmenter(*load_segmenter(checkpoint), target)


def _positions(batch: MaskBatch) -> list[int]:
    return batch.positions
