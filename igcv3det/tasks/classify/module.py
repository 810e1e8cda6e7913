"""Classification training as Lightning calls it: steps, optimizer, checkpoints."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Final

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torchmetrics.classification import MulticlassAccuracy

from igcv3det.checkpoint import load_backbone
from igcv3det.config import OptimConfig, require
from igcv3det.description import DESCRIPTION
from igcv3det.engine.checkpoints import require_continuation
from igcv3det.engine.run_optimizer import current_lr, run_optimizer
from igcv3det.fastpath.conv_impl import ConvImpl, set_conv_impl
from igcv3det.tasks.classify.augmentation import crop_and_flip
from igcv3det.tasks.classify.batches import ImageBatch
from igcv3det.tasks.classify.checkpoint import classifier_metadata, numbered_names
from igcv3det.tasks.classify.config import ClassifierConfig, ScheduleConfig, Triple
from igcv3det.tasks.classify.networks import build_network
from igcv3det.tasks.classify.schedule import build_rate_schedule

logger = logging.getLogger(__name__)

_CLASSIFIER: Final = ClassifierConfig()
_OPTIM: Final = OptimConfig()
_SCHEDULE: Final = ScheduleConfig()


class Normalise(nn.Module):
    """Normalises bytes [B, H, W, 3] to the network input [B, 3, H, W] float32, channels last.

    Mean and deviation are buffers: to copy them to a GPU in every step would make it wait.

    Args:
        mean: mean of each channel, in 0..255.
        std: standard deviation of each channel, in 0..255.
    """

    def __init__(self, mean: Triple, std: Triple) -> None:
        super().__init__()
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(mean).reshape(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).reshape(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Subtracts the mean and divides by the deviation."""
        return (images.permute(0, 3, 1, 2).float() - self.mean) / self.std


class ClassificationModule(LightningModule):
    """Trains a classifier.

    Args:
        classifier: Classifier to train.
        optim: Optimizer and warm-up.
        schedule: Learning-rate schedule after the warm-up.
        names: Names of the classes; come from the data.
        label_smoothing: Share of the target probability that is spread over all classes.
        weights: Backbone or classifier to start from; its classes may differ.
        pad: Black pixels around images in memory before their random crop; comes from the data.
        channels_last: Memory layout of images and weights.
        conv_impl: ``fast`` computes the same without permutations (`fastpath.conv_impl`); for
            channels-last on CPUs.
        compile: Compile the network with ``torch.compile``.

    Raises:
        ValueError: ``classifier.num_classes`` differs from the data's, or ``label_smoothing`` is
            out of range.
    """

    def __init__(
        self,
        classifier: ClassifierConfig = _CLASSIFIER,
        optim: OptimConfig = _OPTIM,
        schedule: ScheduleConfig = _SCHEDULE,
        names: tuple[str, ...] | None = None,
        label_smoothing: float = 0.0,
        weights: str | None = None,
        pad: int = 4,
        channels_last: bool = False,
        conv_impl: ConvImpl = "reference",
        compile: bool = False,
    ) -> None:
        super().__init__()
        if names is not None and len(names) != classifier.num_classes:
            raise ValueError(
                f"model.classifier.num_classes is {classifier.num_classes}, but the data has "
                f"{len(names)} classes: pass --model.classifier.num_classes {len(names)}"
            )
        holds = 0 <= label_smoothing < 1
        require(holds, "model.label_smoothing must be in [0, 1)", label_smoothing)
        self.classifier, self.optim, self.schedule = classifier, optim, schedule
        self.names = names or numbered_names(classifier.num_classes)
        self.label_smoothing, self.pad, self.channels_last = label_smoothing, pad, channels_last
        self.normalise = Normalise(classifier.mean, classifier.std)
        self.network = build_network(classifier)
        if weights is not None:
            load_backbone(self.network, Path(weights), classifier.backbone)
        set_conv_impl(self.network, conv_impl)
        if channels_last:
            self.network.to(memory_format=torch.channels_last)
        if compile:
            self.network.compile()  # in place, so that names in checkpoints stay
        classes = classifier.num_classes
        self.top1 = MulticlassAccuracy(classes, average="micro")
        self.top5 = MulticlassAccuracy(classes, top_k=min(5, classes), average="micro")
        self.losses: dict[str, Tensor] = {}
        """The loss of the latest batch by name, detached."""
        self.max_steps: int | None = None
        """Step at which the schedule ends, if before the trainer's own end."""

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, K] of images as bytes [B, S, S, 3]."""
        inputs = self.normalise(images)
        logits: Tensor = self.network(inputs if self.channels_last else inputs.contiguous())
        return logits

    def training_step(self, batch: ImageBatch, batch_idx: int) -> Tensor:
        """The loss of one batch."""
        images = batch.images
        if batch.crop_flips is not None:
            images = crop_and_flip(images, batch.crop_flips, self.pad)
        logits = self(images).float()
        loss = F.cross_entropy(logits, batch.labels, label_smoothing=self.label_smoothing)
        self.losses = {"loss": loss.detach()}
        self.log("train/loss", loss.detach(), prog_bar=True, batch_size=len(images))
        self.log("train/lr", current_lr(self.trainer), batch_size=len(images))
        return loss

    def validation_step(self, batch: ImageBatch, batch_idx: int) -> None:
        """Adds one batch to the accuracies."""
        logits = self(batch.images).float()
        # a float: Lightning 2.6 truncates the average number of images over the processes
        count: Any = float(len(batch.labels))
        self.top1(logits, batch.labels)
        self.top5(logits, batch.labels)
        loss = F.cross_entropy(logits, batch.labels)
        self.log("val/loss", loss, batch_size=count, sync_dist=True)
        self.log("val/top1", self.top1, prog_bar=True, on_step=False, on_epoch=True)
        self.log("val/top5", self.top5, on_step=False, on_epoch=True)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Optimizer and schedule for this run's batch size and length.

        Raises:
            ValueError: the run has no end, which the schedule needs.
        """
        return run_optimizer(
            self.trainer, self.network, self.optim, self.max_steps, self._build_schedule
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the description of the classifier."""
        checkpoint[DESCRIPTION] = classifier_metadata(self.classifier, self.names)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Raises ValueError if the checkpoint is of another network or run."""
        require_continuation(
            checkpoint, classifier_metadata(self.classifier, self.names), self.optim.ema_decay
        )

    def _build_schedule(self, optimizer: Optimizer, optim: OptimConfig, total: int) -> LambdaLR:
        accumulated = self.trainer.accumulate_grad_batches
        per_epoch = max(1, -(-int(self.trainer.num_training_batches) // accumulated))
        return build_rate_schedule(optimizer, total, per_epoch, optim, self.schedule)
