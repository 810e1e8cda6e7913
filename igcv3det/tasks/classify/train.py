"""The command line of classification training.

Every value has one key: the image size is in ``model.classifier``, the padding of small images in
``data.augment``; the class names come from the data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from pytorch_lightning.callbacks import Callback

from igcv3det.config import OptimConfig
from igcv3det.engine.callbacks import FiniteLossGuard, ReportLines
from igcv3det.engine.ema import AveragedWeights
from igcv3det.engine.run_cli import RunCLI
from igcv3det.tasks.classify.batches import ImageBatch
from igcv3det.tasks.classify.checkpoint import load_classifier, save_classifier
from igcv3det.tasks.classify.config import ClassifierConfig, ImageAugmentConfig, ScheduleConfig
from igcv3det.tasks.classify.datamodule import ClassificationDataModule
from igcv3det.tasks.classify.module import ClassificationModule


class ClassificationCLI(RunCLI):
    """Parses the command line and sets up classifier, data and trainer; `fit` trains.

    Args:
        args: arguments of the command line; None takes ``sys.argv``.

    Attributes:
        run_folder: folder of the results.
    """

    module = ClassificationModule
    data = ClassificationDataModule
    configs: ClassVar[Mapping[str, type]] = {
        "model.classifier": ClassifierConfig,
        "model.optim": OptimConfig,
        "model.schedule": ScheduleConfig,
        "data.augment": ImageAugmentConfig,
    }
    links: ClassVar[Sequence[tuple[str, str]]] = (
        ("seed_everything", "data.seed"),
        ("model.classifier.image_size", "data.image_size"),
        ("data.augment.pad", "model.pad"),
    )
    built_links: ClassVar[Sequence[tuple[str, str]]] = (("data.names", "model.names"),)
    program = ("train-cls", "Trains a classifier.")
    best = ("val/top1", "max")

    def _own_callbacks(self, given: Any) -> list[Callback]:  # noqa: ANN401
        callbacks: list[Callback] = [
            FiniteLossGuard(_image_ids),
            ReportLines(("val/top1", "val/top5", "val/loss")),
        ]
        decay = self.model.optim.ema_decay
        if decay is not None:
            callbacks.append(AveragedWeights(decay, "network"))
        return callbacks

    def _release(self, checkpoint: Path, target: Path) -> None:
        save_classifier(load_classifier(checkpoint), target)


def _image_ids(batch: ImageBatch) -> list[int]:
    return [int(index) for index in batch.indices]
