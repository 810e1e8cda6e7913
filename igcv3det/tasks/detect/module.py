"""Detection training as Lightning calls it: a training step, a validation step, checkpoints."""

from __future__ import annotations

import dataclasses
import logging
from typing import Any, Final

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor

from igcv3det.checkpoint import describe_detector, load_backbone
from igcv3det.config import DetectorConfig, LossConfig, OptimConfig
from igcv3det.description import DESCRIPTION
from igcv3det.detection.losses import MultiBoxLoss
from igcv3det.detection.postprocess import postprocess
from igcv3det.detector import build_detector
from igcv3det.engine.batch_norm import freeze_batch_norms, require_batch_statistics
from igcv3det.engine.checkpoints import require_continuation
from igcv3det.engine.run_optimizer import current_lr, run_optimizer
from igcv3det.evaluation import CocoEvaluator
from igcv3det.evaluation.coco_scoring import SUMMARY_NAMES
from igcv3det.fastpath.conv_impl import ConvImpl, set_conv_impl
from igcv3det.structures import Categories, Detections, HeadOutputs, Target
from igcv3det.tasks.detect.fine_tuning import load_for_fine_tuning

logger = logging.getLogger(__name__)

_DETECTOR: Final = DetectorConfig()
_LOSS: Final = LossConfig()
_OPTIM: Final = OptimConfig()

FREEZES_BN_STATS, NEW_LAYERS = "freezes_bn_stats", "new_layers"  # keys of a checkpoint

Batch = tuple[Tensor, list[Target]]


class DetectionModule(LightningModule):
    """Trains a detector.

    Checkpoints carry the detector's description as plain values, so `igcv3det.load_detector` reads
    them without Lightning and without the configuration file.

    Args:
        detector: Detector to train; its number of classes is that of ``categories``.
        loss: Loss.
        optim: Optimizer and schedule.
        categories: Meaning of the labels; comes from the data.
        weights: Trained detector to start from: a name of pretrained weights, ``.safetensors`` or
            ``.ckpt``. Classes of the same name keep their weights.
        random_init: Take only the description of ``weights`` and start from random weights, for
            comparison.
        freeze_bn_stats: Batch normalisations use the running statistics of ``weights`` in training
            too, unchanged; scale and shift are trained. For images like those that the weights
            were trained on. Has no effect on a start from random weights.
        backbone_weights: Classifier whose backbone to start from; not together with ``weights``.
        channels_last: Memory layout of images and weights.
        conv_impl: Implementation of the convolutions; ``fast`` computes the same without
            permutations, for channels-last on CPUs (`fastpath.conv_impl`).
        compile: Compile the detector with ``torch.compile``.

    Raises:
        ValueError: ``weights`` and ``backbone_weights`` are both given, or a file does not fit.
    """

    def __init__(
        self,
        detector: DetectorConfig = _DETECTOR,
        loss: LossConfig = _LOSS,
        optim: OptimConfig = _OPTIM,
        categories: Categories | None = None,
        weights: str | None = None,
        random_init: bool = False,
        freeze_bn_stats: bool = False,
        backbone_weights: str | None = None,
        channels_last: bool = False,
        conv_impl: ConvImpl = "reference",
        compile: bool = False,
    ) -> None:
        super().__init__()
        if weights is not None and backbone_weights is not None:
            raise ValueError("model.weights includes a backbone: drop model.backbone_weights")
        if categories is not None:
            detector = dataclasses.replace(detector, num_classes=len(categories))
        self.optim = optim
        self.detector = build_detector(detector, categories)
        starts_trained = weights is not None and not random_init
        trained = weights if starts_trained else None
        self._new_layers = load_for_fine_tuning(self.detector, trained) if trained else frozenset()
        self._freeze_wanted = freeze_bn_stats
        self.freezes_bn_stats = freeze_bn_stats and starts_trained
        if backbone_weights is not None:
            load_backbone(self.detector.backbone, backbone_weights, detector.backbone)
        self.criterion = MultiBoxLoss(loss, detector.head.activation, detector.variances)
        set_conv_impl(self.detector, conv_impl)
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
        """Puts frozen norms into evaluation mode, which Lightning keeps; checks the batch.

        Raises:
            ValueError: batches of one image, whose statistics on 1x1 maps do not exist.
        """
        if self.freezes_bn_stats:
            freeze_batch_norms(self.detector, self._new_layers)  # which have no statistics yet
        size = self.trainer.train_dataloader.batch_size  # type: ignore[union-attr]
        require_batch_statistics(self.detector, size, "model.freeze_bn_stats with model.weights")

    def forward(self, images: Tensor) -> HeadOutputs:
        """Raw head outputs for normalised images [B, 3, S, S]."""
        if self.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        outputs: HeadOutputs = self.detector(images)
        return outputs

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Returns the loss of a batch."""
        images, targets = batch
        loss, self.losses = self._losses(self(images), targets)
        parts = {f"train/{name}": value for name, value in self.losses.items()}
        self.log("train/loss", loss.detach(), prog_bar=True, batch_size=len(images))
        self.log_dict(parts, batch_size=len(images))
        self.log("train/lr", current_lr(self.trainer), batch_size=len(images))
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, list[Detections]]:
        """Adds a batch to the evaluation and returns its ``detections`` for the callbacks."""
        images, targets = batch
        outputs = self(images)
        loss, _ = self._losses(outputs, targets)
        # a float: Lightning 2.6 truncates the average number of images over the processes
        weight: Any = float(len(images))
        self.log("val/loss", loss, batch_size=weight, sync_dist=True)
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
        """Reads the ground truth once; empties the evaluator."""
        if self.evaluator is None:
            annotations = self.trainer.datamodule.val_record  # type: ignore[attr-defined]
            self.evaluator = CocoEvaluator(annotations, self.detector.categories)
        self.evaluator.reset()

    def on_validation_epoch_end(self) -> None:
        """Logs COCO's twelve metrics."""
        if self.evaluator is None or self.trainer.sanity_checking:
            return
        metrics = self.evaluator.compute()
        figures = {f"val/{name}": float(metrics[name]) for name in SUMMARY_NAMES}  # type: ignore[literal-required]
        self.log("val/AP", figures.pop("val/AP"), prog_bar=True, sync_dist=True)
        self.log_dict(figures, sync_dist=True)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Optimizer and schedule for this run's batch size and length.

        Raises:
            ValueError: the run has no end, which the schedule needs.
        """
        return run_optimizer(self.trainer, self.detector, self.optim, self.max_steps)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the detector's description, and whether its norms are frozen."""
        checkpoint[DESCRIPTION] = describe_detector(self.detector)
        checkpoint[FREEZES_BN_STATS] = self.freezes_bn_stats
        checkpoint[NEW_LAYERS] = sorted(self._new_layers)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Checks that the checkpoint is of such a run, and freezes norms if that run did.

        Raises:
            ValueError: another detector, or no averaged weights where this run needs them.
        """
        require_continuation(checkpoint, describe_detector(self.detector), self.optim.ema_decay)
        # checkpoints of earlier versions do not say whether there were weights to start from
        self.freezes_bn_stats = self._freeze_wanted and checkpoint.get(FREEZES_BN_STATS, True)
        self._new_layers = frozenset(checkpoint.get(NEW_LAYERS, ()))

    def _losses(
        self, outputs: HeadOutputs, targets: list[Target]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Total and detached parts, in float32 whatever the network ran in."""
        parts = self.criterion(outputs, self.detector.anchors, targets)
        loss = torch.stack(list(parts.values())).sum()
        return loss, {name: value.detach() for name, value in parts.items()}
