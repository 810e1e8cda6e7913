"""Accuracy of a classifier: top-1, top-5, per class, and the confusion matrix."""

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
        top1: share of images whose best-scored class is the true one.
        top5: share of images whose true class is among the five best-scored.
        confusion: [K, K] int64 numbers of images: true class by predicted class.
        names: names of the classes.
    """

    top1: float
    top5: float
    confusion: Tensor
    names: tuple[str, ...]

    @property
    def images(self) -> int:
        """Number of images."""
        return int(self.confusion.sum())

    @property
    def per_class(self) -> dict[str, float | None]:
        """Top-1 accuracy of each class; None for a class without images."""
        right, total = self.confusion.diag().tolist(), self.confusion.sum(1).tolist()
        return {
            name: r / n if n else None for name, r, n in zip(self.names, right, total, strict=True)
        }

    def as_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
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
    """Evaluates a classifier on labelled images.

    Args:
        classifier: in evaluation mode; its network is moved to the device.
        batches: batches of a data module's loader.
        device: device to compute on.
        limit: evaluate only this many images.
        progress: called with the number of images done, after each batch.

    Raises:
        ValueError: no images, or a label outside the classifier's classes.
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
        raise ValueError("there are no images to evaluate on")
    return Evaluation(
        float(top1.compute()), float(top5.compute()), confusion.compute().cpu(), classifier.names
    )
