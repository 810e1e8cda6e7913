"""Segmentation training as Lightning calls it: steps, mIoU, optimizer, checkpoints."""

from __future__ import annotations

import dataclasses
from typing import Any, Final

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torchmetrics import Metric

from igcv3det.config import OptimConfig
from igcv3det.description import DESCRIPTION
from igcv3det.engine.checkpoints import require_continuation
from igcv3det.engine.run_optimizer import current_lr, run_optimizer
from igcv3det.fastpath.conv_impl import ConvImpl, set_conv_impl
from igcv3det.tasks.segment.batches import MaskBatch
from igcv3det.tasks.segment.checkpoint import describe_segmenter
from igcv3det.tasks.segment.config import DecayConfig, PixelLossConfig, SegmenterConfig
from igcv3det.tasks.segment.evaluation import class_ious, count_pixels
from igcv3det.tasks.segment.losses import PixelLoss
from igcv3det.tasks.segment.masks import ClassLabels
from igcv3det.tasks.segment.network import Segmenter, enlarge_logits, numbered_names, resize_logits
from igcv3det.tasks.segment.schedule import build_decay
from igcv3det.tasks.segment.start import load_start

_SEGMENTER: Final = SegmenterConfig()
_LOSS: Final = PixelLossConfig()
_OPTIM: Final = OptimConfig()
_SCHEDULE: Final = DecayConfig()


class MeanIoU(Metric):
    """Mean intersection over union of all images together, over all processes."""

    full_state_update = False

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.matrix: Tensor
        self.add_state(
            "matrix", torch.zeros(num_classes, num_classes, dtype=torch.int64), dist_reduce_fx="sum"
        )

    def update(self, predicted: Tensor, truth: Tensor) -> None:
        """Adds an image: classes [H, W] each."""
        self.matrix += count_pixels(predicted, truth, len(self.matrix))

    def compute(self) -> Tensor:
        """The mean over the classes that occur; 0 where no pixel counts."""
        return class_ious(self.matrix).nanmean().nan_to_num().float()


class SegmentationModule(LightningModule):
    """Trains a segmenter.

    Args:
        segmenter: Network and input; its number of classes is that of the data.
        loss: Loss.
        optim: Optimizer and warm-up.
        schedule: Learning rate after the warm-up.
        classes: Which labels are classes; comes from the data.
        pixels: Pixels of each class in the training masks; come from the data.
        weights: Detector, classifier or segmenter to start from: a name of pretrained weights or a
            file. Of the first two the backbone is taken.
        channels_last: Memory layout of images and weights.
        conv_impl: Implementation of the convolutions; ``fast`` computes the same without
            permutations, for channels-last on CPUs (`fastpath.conv_impl`).
        compile: Compile the network with ``torch.compile``.

    Raises:
        ValueError: ``weights`` do not fit.
    """

    def __init__(
        self,
        segmenter: SegmenterConfig = _SEGMENTER,
        loss: PixelLossConfig = _LOSS,
        optim: OptimConfig = _OPTIM,
        schedule: DecayConfig = _SCHEDULE,
        classes: ClassLabels | None = None,
        pixels: tuple[int, ...] | None = None,
        weights: str | None = None,
        channels_last: bool = False,
        conv_impl: ConvImpl = "reference",
        compile: bool = False,
    ) -> None:
        super().__init__()
        if classes is None:
            names = numbered_names(segmenter.num_classes)
            classes = ClassLabels(tuple(range(segmenter.num_classes)), (), names)
        self.classes = classes
        config = dataclasses.replace(segmenter, num_classes=len(classes.labels))
        self.optim, self.schedule, self.channels_last = optim, schedule, channels_last
        self.segmenter = Segmenter(config, classes.names)
        if weights is not None:
            load_start(self.segmenter, weights)
        self.criterion = PixelLoss(loss, config.num_classes, pixels)
        set_conv_impl(self.segmenter, conv_impl)
        if channels_last:
            self.segmenter.to(memory_format=torch.channels_last)
        if compile:
            self.segmenter.compile()  # in place, so that names in checkpoints stay
        self.miou = MeanIoU(config.num_classes)
        self.losses: dict[str, Tensor] = {}
        """The latest batch's loss, detached."""
        self.max_steps: int | None = None
        """Where the schedule ends if that is before the trainer's own end."""

    def on_train_start(self) -> None:
        """Checks the batch.

        Raises:
            ValueError: batches of one image with DeepLabV3's head.
        """
        size = self.trainer.train_dataloader.batch_size  # type: ignore[union-attr]
        if size == 1 and self.segmenter.config.head == "deeplab":
            raise ValueError(
                "a batch of one image has no batch statistics of its average: pass "
                "--data.batch_size 2 or more, or --model.segmenter.head lraspp"
            )

    def forward(self, images: Tensor) -> Tensor:
        """`Segmenter.coarse_logits` of normalised images [B, 3, H, W], in float32."""
        if self.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        return self.segmenter.coarse_logits(images).float()

    def loss(self, batch: MaskBatch) -> Tensor:
        """The loss of a batch whose masks have the size of its images."""
        size = (batch.images.shape[-2], batch.images.shape[-1])
        logits = enlarge_logits(self(batch.images), size)
        loss: Tensor = self.criterion(logits, torch.stack(batch.masks))
        return loss

    def training_step(self, batch: MaskBatch, batch_idx: int) -> Tensor:
        """Returns the loss of a batch."""
        loss = self.loss(batch)
        self.losses = {"loss": loss.detach()}
        self.log("train/loss", loss.detach(), prog_bar=True, batch_size=len(batch.images))
        self.log("train/lr", current_lr(self.trainer), batch_size=len(batch.images))
        return loss

    def validation_step(self, batch: MaskBatch, batch_idx: int) -> dict[str, list[Tensor]]:
        """Scores a batch, each image at its own size; returns the predicted ``classes``."""
        coarse = self(batch.images)
        losses, classes = [], []
        for own, mask in zip(coarse, batch.masks, strict=True):
            logits = resize_logits(own[None], (mask.shape[0], mask.shape[1]))
            losses.append(self.criterion(logits, mask[None]))
            classes.append(logits[0].argmax(0))
            self.miou.update(classes[-1], mask)
        # a float: Lightning 2.6 truncates the average number of images over the processes
        count: Any = float(len(losses))
        self.log("val/loss", torch.stack(losses).mean(), batch_size=count, sync_dist=True)
        self.log("val/mIoU", self.miou, prog_bar=True, on_step=False, on_epoch=True)
        return {"classes": classes}

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Optimizer and schedule for this run's batch size and length.

        Raises:
            ValueError: the run has no end, which the schedule needs.
        """
        return run_optimizer(
            self.trainer, self.segmenter, self.optim, self.max_steps, self._build_schedule
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the segmenter's description."""
        checkpoint[DESCRIPTION] = self._description

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Raises ValueError if the checkpoint is of another network or run."""
        require_continuation(checkpoint, self._description, self.optim.ema_decay)

    @property
    def _description(self) -> dict[str, Any]:
        return describe_segmenter(self.segmenter.config, self.classes)

    def _build_schedule(self, optimizer: Optimizer, optim: OptimConfig, total: int) -> LambdaLR:
        return build_decay(optimizer, optim, total, self.schedule)
