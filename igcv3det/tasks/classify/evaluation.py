"""How good a classifier is: top-1, top-5, each class, and what is taken for what."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix

from igcv3det.tasks.classify.batches import ImageBatch
from igcv3det.tasks.classify.checkpoint import Classifier
from igcv3det.tasks.classify.module import Normalise


class Evaluation(NamedTuple):
    """Accuracies, each in 0..1.

    Attributes:
        top1: share of images whose best class is the true one.
        top5: share of images whose five best classes hold the true one.
        confusion: [K, K] int64 images: row the true class, column the best one.
        names: of the classes.
    """

    top1: float
    top5: float
    confusion: Tensor
    names: tuple[str, ...]

    @property
    def images(self) -> int:
        """How many images were looked at."""
        return int(self.confusion.sum())

    @property
    def per_class(self) -> dict[str, float | None]:
        """Top-1 of each class's images; None where there are none."""
        right, total = self.confusion.diag().tolist(), self.confusion.sum(1).tolist()
        return {
            name: r / n if n else None for name, r, n in zip(self.names, right, total, strict=True)
        }

    def as_json(self) -> dict[str, Any]:
        """Everything, as plain values."""
        return {
            "top1": self.top1,
            "top5": self.top5,
            "images": self.images,
            "per_class": self.per_class,
            "confusion": self.confusion.tolist(),
        }


@torch.inference_mode()
def evaluate(
    classifier: Classifier,
    batches: Iterable[ImageBatch],
    device: str | torch.device = "cpu",
    limit: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """Classifies labelled images and counts.

    Args:
        classifier: in evaluation mode; its network is moved to the device.
        batches: as a data module's loader gives them.
        device: where the network runs.
        limit: only so many images.
        progress: told how many are done, after each batch.

    Raises:
        ValueError: no images, or a label that the classifier does not know.
    """
    classes = classifier.config.num_classes
    network = classifier.network.to(device)
    normalise = Normalise(classifier.config.mean, classifier.config.std).to(device)
    top1 = MulticlassAccuracy(classes, average="micro").to(device)
    top5 = MulticlassAccuracy(classes, top_k=min(5, classes), average="micro").to(device)
    confusion = MulticlassConfusionMatrix(classes).to(device)
    done = 0
    for batch in batches:
        take = len(batch.labels) if limit is None else min(len(batch.labels), limit - done)
        if take <= 0:
            break
        labels = batch.labels[:take].to(device)
        if int(labels.max()) >= classes:
            raise ValueError(f"label {int(labels.max())}: the classifier has {classes} classes")
        images = batch.images[:take].to(device)
        logits = network(normalise(images))
        for metric in (top1, top5, confusion):
            metric.update(logits, labels)
        done += take
        if progress is not None:
            progress(done)
    if not done:
        raise ValueError("there are no images to measure on")
    return Evaluation(
        float(top1.compute()), float(top5.compute()), confusion.compute().cpu(), classifier.names
    )
