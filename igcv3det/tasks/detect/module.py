"""One training step and one validation step, as Lightning calls them. No maths lives here."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Final

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn

from igcv3det.checkpoint import describe_detector, load_backbone
from igcv3det.config import DetectorConfig, LossConfig, OptimConfig
from igcv3det.description import DESCRIPTION
from igcv3det.detection.losses import MultiBoxLoss
from igcv3det.detection.postprocess import postprocess
from igcv3det.detector import build_detector
from igcv3det.engine.checkpoints import require_continuation
from igcv3det.engine.optim import build_optimizer, build_schedule, scaled_lr, warmup_steps
from igcv3det.engine.run_length import run_length
from igcv3det.evaluation import CocoEvaluator
from igcv3det.evaluation.coco_scoring import SUMMARY_NAMES
from igcv3det.fastpath.conv_impl import ConvImpl, set_conv_impl
from igcv3det.structures import Categories, Detections, HeadOutputs, Target
from igcv3det.tasks.detect.fine_tuning import load_for_fine_tuning

logger = logging.getLogger(__name__)

_DETECTOR: Final = DetectorConfig()
_LOSS: Final = LossConfig()
_OPTIM: Final = OptimConfig()

Batch = tuple[Tensor, list[Target]]


class DetectionModule(LightningModule):
    """Trains a detector.

    Checkpoints carry the detector's description as plain values, so `igcv3det.load_detector` reads
    them without Lightning and without the configuration file.

    Args:
        detector: what to train.
        loss: what to minimise.
        optim: how.
        categories: what the labels mean; comes from the data.
        weights: a detector to start from (``.safetensors`` or ``.ckpt``), whatever its classes;
            those of the same name keep what was learnt of them.
        keep_norm_statistics: batch normalisations go on with the statistics of ``weights``, in
            training too; scale and shift learn. For images like those that the weights were
            made from. Without ``weights`` there is nothing to keep.
        backbone_weights: a classifier whose features to start from; not together with ``weights``.
        channels_last: memory layout of images and weights.
        execution: ``fast`` computes the same without permutations (`fastpath.conv_impl`); for
            channels-last on CPUs, not measured elsewhere.
        compile: compile the detector with ``torch.compile``.

    Raises:
        ValueError: ``detector.num_classes`` is not the number of categories, ``weights`` and
            ``backbone_weights`` are both given, or a file does not fit.
    """

    def __init__(
        self,
        detector: DetectorConfig = _DETECTOR,
        loss: LossConfig = _LOSS,
        optim: OptimConfig = _OPTIM,
        categories: Categories | None = None,
        weights: str | None = None,
        keep_norm_statistics: bool = False,
        backbone_weights: str | None = None,
        channels_last: bool = False,
        execution: ConvImpl = "reference",
        compile: bool = False,
    ) -> None:
        super().__init__()
        if categories is not None and len(categories) != detector.num_classes:
            raise ValueError(
                f"model.detector.num_classes is {detector.num_classes}, but the data has "
                f"{len(categories)} categories: pass --model.detector.num_classes {len(categories)}"
            )
        if weights is not None and backbone_weights is not None:
            raise ValueError("model.weights holds a backbone already: drop model.backbone_weights")
        self.optim = optim
        self.detector = build_detector(detector, categories)
        if weights is not None:
            load_for_fine_tuning(self.detector, Path(weights))
        self._keeps_statistics = keep_norm_statistics and weights is not None
        if backbone_weights is not None:
            load_backbone(self.detector.backbone, backbone_weights)
        self.criterion = MultiBoxLoss(loss, detector.head.activation, detector.variances)
        set_conv_impl(self.detector, execution)
        self.channels_last = channels_last
        if channels_last:
            self.detector.to(memory_format=torch.channels_last)
        if compile:
            self.detector.compile()  # in place, so that names in checkpoints stay
        self.losses: dict[str, Tensor] = {}
        """The latest batch's loss parts, detached."""
        self.max_steps: int | None = None
        """Where the schedule ends if that is before the trainer's own end."""
        self.evaluator: CocoEvaluator | None = None

    def on_train_start(self) -> None:
        """Norms whose statistics are kept go to evaluation mode; Lightning keeps modes it finds."""
        if self._keeps_statistics:
            for part in self.detector.modules():
                if isinstance(part, nn.BatchNorm2d):
                    part.eval()

    def forward(self, images: Tensor) -> HeadOutputs:
        """Raw predictions for normalised images [B, 3, S, S]."""
        if self.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        outputs: HeadOutputs = self.detector(images)
        return outputs

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of one batch."""
        images, targets = batch
        loss, self.losses = self._losses(self(images), targets)
        parts = {f"train/{name}": value for name, value in self.losses.items()}
        self.log("train/loss", loss.detach(), prog_bar=True, batch_size=len(images))
        self.log_dict(parts, batch_size=len(images))
        self.log("train/lr", self._lr(), batch_size=len(images))
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, list[Detections]]:
        """Adds one batch to the evaluation; its ``detections`` are for the callbacks."""
        images, targets = batch
        outputs = self(images)
        loss, _ = self._losses(outputs, targets)
        self.log("val/loss", loss, batch_size=len(images), sync_dist=True)
        config = self.detector.config
        detections = postprocess(
            outputs,
            self.detector.anchors,
            [target.original_size for target in targets],
            config.image_size,
            config.postprocess,
            config.head.activation,
            config.variances,
        )
        if self.evaluator is not None:
            self.evaluator.update([target.image_id for target in targets], detections)
        return {"detections": detections}

    def on_validation_epoch_start(self) -> None:
        """Reads the ground truth once; forgets the images of the last time."""
        if self.evaluator is None:
            annotations = self.trainer.datamodule.val_annotations  # type: ignore[attr-defined]
            self.evaluator = CocoEvaluator(annotations, self.detector.categories)
        self.evaluator.reset()

    def on_validation_epoch_end(self) -> None:
        """Logs COCO's twelve figures."""
        if self.evaluator is None or self.trainer.sanity_checking:
            return
        metrics = self.evaluator.compute()
        figures = {f"val/{name}": float(metrics[name]) for name in SUMMARY_NAMES}  # type: ignore[literal-required]
        self.log("val/AP", figures.pop("val/AP"), prog_bar=True, sync_dist=True)
        self.log_dict(figures, sync_dist=True)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Optimizer and schedule for this run's batch and length.

        Raises:
            ValueError: a run without end has no cosine.
        """
        total, batch = run_length(self.trainer, self.max_steps)
        lr = scaled_lr(self.optim, batch)
        logger.info(
            "%.2f M parameters; %d steps of %d images; learning rate %.4g after %d steps",
            sum(parameter.numel() for parameter in self.detector.parameters()) / 1e6,
            total,
            batch,
            lr,
            warmup_steps(self.optim, total),
        )
        optimizer = build_optimizer(self.detector, self.optim, lr)
        schedule = build_schedule(optimizer, self.optim, total)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the detector's description."""
        checkpoint[DESCRIPTION] = describe_detector(self.detector)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuses what would not be a continuation (ValueError)."""
        require_continuation(checkpoint, describe_detector(self.detector), self.optim.ema_decay)

    def _losses(
        self, outputs: HeadOutputs, targets: list[Target]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Total and detached parts, in float32 whatever the network ran in."""
        parts = self.criterion(outputs, self.detector.anchors, targets)
        loss = torch.stack(list(parts.values())).sum()
        return loss, {name: value.detach() for name, value in parts.items()}

    def _lr(self) -> float:
        optimizer = self.trainer.optimizers[0]
        return float(optimizer.param_groups[0]["lr"])
