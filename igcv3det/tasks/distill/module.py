"""Distillation as Lightning calls it."""

from __future__ import annotations

import copy
import itertools
import logging
from pathlib import Path
from typing import Any, Final

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn

from igcv3det.checkpoint import describe_detector, load_detector
from igcv3det.config import DetectorConfig, LossConfig, OptimConfig
from igcv3det.description import DESCRIPTION
from igcv3det.detection.losses import MultiBoxLoss
from igcv3det.detector import SSDLite, build_detector
from igcv3det.engine.checkpoints import require_continuation
from igcv3det.engine.optim import build_optimizer, build_schedule, scaled_lr
from igcv3det.engine.run_length import run_length
from igcv3det.fastpath.conv_impl import ConvImpl, set_conv_impl
from igcv3det.structures import Categories, Target
from igcv3det.tasks.detect.fine_tuning import load_for_fine_tuning
from igcv3det.tasks.distill.channel_map import ChannelMap
from igcv3det.tasks.distill.config import DistillationConfig
from igcv3det.tasks.distill.morph import morph
from igcv3det.tasks.distill.start import (
    copy_parts,
    copy_shared_parts,
    detector_parts,
    stage_channels,
    take_statistics,
)
from igcv3det.tasks.distill.student import STAGES, DistillationObjective
from igcv3det.tasks.distill.teacher import Runtime, Teacher, TeacherNetwork, part_name

logger = logging.getLogger(__name__)

_DETECTOR: Final = DetectorConfig()
_DISTILLATION: Final = DistillationConfig()
_LOSS: Final = LossConfig()
_OPTIM: Final = OptimConfig()
_STATISTICS_BATCHES = 4

Batch = tuple[Tensor, list[Target]]


class DistillationModule(LightningModule):
    """Trains a student to compute what its teacher computes.

    Args:
        teacher: a detector file; its classes become the student's.
        detector: the student.
        distillation: what is learnt.
        loss: on boxes, where ``distillation.box_weight`` wants it.
        optim: how.
        weights: a student to go on from; ``distillation.start`` then does nothing.
        channels_last: memory layout of images and weights.
        conv_impl: of the student, see `fastpath.conv_impl`.
        reference_runtime: what runs the networks that do not learn; ``openvino`` is for CPUs.

    Raises:
        FileNotFoundError: a file that is not there.
        ValueError: the student has other classes than the teacher, or a file does not fit.
    """

    def __init__(
        self,
        teacher: str,
        detector: DetectorConfig = _DETECTOR,
        distillation: DistillationConfig = _DISTILLATION,
        loss: LossConfig = _LOSS,
        optim: OptimConfig = _OPTIM,
        weights: str | None = None,
        channels_last: bool = False,
        conv_impl: ConvImpl = "reference",
        reference_runtime: Runtime = "torch",
    ) -> None:
        super().__init__()
        taught = load_detector(teacher)
        if taught.config.num_classes != detector.num_classes:
            raise ValueError(
                f"model.detector.num_classes is {detector.num_classes}, but {teacher} has "
                f"{taught.config.num_classes}"
            )
        self.optim, self.distillation = optim, distillation
        self.detector: SSDLite = build_detector(detector, taught.categories)
        self.channel_maps = _channel_maps(self.detector, taught, distillation)
        tail = _tail(taught, conv_impl) if distillation.teacher_tail else None
        self.lesson = DistillationObjective(distillation, self.channel_maps, tail)
        self.criterion = MultiBoxLoss(loss, detector.head.activation, detector.variances)
        self.reference_runtime = reference_runtime
        self._teacher = (taught,)  # in a tuple, so that it is no part of this module
        self._references: dict[bool, Teacher] = {}
        self._takes_statistics = False
        self._keeps_statistics = False
        if weights is not None:
            load_for_fine_tuning(self.detector, Path(weights))
        elif distillation.start == "shared":
            copied = copy_shared_parts(self.detector, taught)
            logger.info("copied from the teacher: %s", ", ".join(copied))
            self._takes_statistics = True
        elif distillation.start == "morph":
            morph(self.detector, taught)
        copy_parts(self.detector, taught, distillation.copied)
        self._frozen = [
            module
            for name, modules in detector_parts(self.detector).items()
            for module in modules
            if name in distillation.frozen
        ]
        for module in self._frozen:
            module.requires_grad_(False)
        set_conv_impl(self.detector, conv_impl)
        if channels_last:
            self.detector.to(memory_format=torch.channels_last)
        self.losses: dict[str, Tensor] = {}
        """The latest batch's terms, detached."""
        self.max_steps: int | None = None
        """Where the schedule ends if that is before the trainer's own end."""

    @property
    def categories(self) -> Categories:
        """The teacher's, and so the student's."""
        return self.detector.categories

    def on_fit_start(self) -> None:
        """Refuses data that do not fit what is to be learnt.

        Raises:
            ValueError: boxes are to be learnt, but the data has none or cuts the images smaller.
        """
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        if self.distillation.box_weight > 0:
            size = self.detector.config.image_size
            if not data.boxes:
                raise ValueError("model.distillation.box_weight is set: data.boxes must name files")
            if data.view.size != size:
                raise ValueError(
                    f"model.distillation.box_weight is set: data.view.size must be the detector's "
                    f"{size}, it is {data.view.size}"
                )

    def train(self, mode: bool = True) -> DistillationModule:
        """Frozen parts stay in evaluation mode, and norms that keep their statistics."""
        super().train(mode)
        for module in self._frozen:
            module.eval()
        if self._keeps_statistics:
            for part in self.detector.modules():
                if isinstance(part, nn.BatchNorm2d):
                    part.eval()
        return self

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """From ``distillation.batch_statistics_steps`` on the norms keep their statistics."""
        steps = self.distillation.batch_statistics_steps
        if steps is not None and not self._keeps_statistics and self.trainer.global_step >= steps:
            self._keeps_statistics = True
            self.train()

    def on_train_start(self) -> None:
        """Gives the stages the teacher's statistics where a run begins."""
        self.train()  # Lightning keeps the modes that it finds, and warns of frozen parts earlier
        if self._takes_statistics and self.trainer.global_step == 0:
            take_statistics(self.detector, self._teacher_features())

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of one batch."""
        images, _ = batch
        forced = self.trainer.global_step < self.distillation.teacher_forcing_steps
        terms = self._terms(batch, forced=forced)
        loss = self.lesson.total(terms)
        self.losses = {name: term.detach() for name, term in terms.items()}
        self.log("train/loss", loss.detach(), prog_bar=True, batch_size=len(images))
        self.log_dict(
            {f"train/{name}": term for name, term in self.losses.items()}, batch_size=len(images)
        )
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """The same terms on images that are held out."""
        images, _ = batch
        terms = self._terms(batch, forced=False)
        self.log("val/loss", self.lesson.total(terms), prog_bar=True, batch_size=len(images))
        self.log_dict({f"val/{name}": term for name, term in terms.items()}, batch_size=len(images))

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Optimizer and schedule for this run's batch and length.

        Raises:
            ValueError: a run without end has no cosine.
        """
        total, batch = run_length(self.trainer, self.max_steps)
        lr = scaled_lr(self.optim, batch)
        optimizer = build_optimizer(self.detector, self.optim, lr)
        schedule = build_schedule(optimizer, self.optim, total)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the student's description."""
        checkpoint[DESCRIPTION] = describe_detector(self.detector)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuses what would not be a continuation (ValueError)."""
        require_continuation(checkpoint, describe_detector(self.detector), self.optim.ema_decay)

    def _terms(self, batch: Batch, *, forced: bool) -> dict[str, Tensor]:
        images, targets = batch
        names = self.lesson.names(forced=forced)
        if names and forced not in self._references:
            network = TeacherNetwork(
                self._teacher[0], self.detector, self.lesson.prefix, names, self.reference_runtime
            )
            self._references[forced] = Teacher(network, self.reference_runtime)
            if self.lesson.tail is not None:  # no submodule, so Lightning leaves it
                self.lesson.tail.to(images.device)
        # boxes alone need nobody to compare with
        reference = self._references[forced](images) if names else {}
        terms, outputs = self.lesson.losses(self.detector, images, reference, forced=forced)
        if outputs is not None and self.distillation.box_weight > 0:
            terms |= self.criterion(outputs, self.detector.anchors, targets)
        return terms

    def _teacher_features(self) -> list[dict[int, Tensor]]:
        names = [part_name(part) for part in STAGES]
        network = TeacherNetwork(self._teacher[0], self.detector, 0, names, "torch")
        reference = Teacher(network, "torch")
        datamodule = self.trainer.datamodule  # type: ignore[attr-defined]
        features = []
        for batch in itertools.islice(datamodule.train_dataloader(), _STATISTICS_BATCHES):
            images, _ = datamodule.on_after_batch_transfer(batch, 0)
            found = reference(images.to(self.device))
            features.append({part: found[part_name(part)] for part in STAGES})
        return features


def _channel_maps(student: SSDLite, teacher: SSDLite, config: DistillationConfig) -> nn.ModuleDict:
    return nn.ModuleDict(
        {
            part_name(stage): ChannelMap(*(stage_channels(d, stage) for d in (student, teacher)))
            for stage in config.mapped_stages
        }
    )


def _tail(teacher: SSDLite, conv_impl: ConvImpl) -> SSDLite:
    tail = copy.deepcopy(teacher).eval().requires_grad_(False)
    set_conv_impl(tail, conv_impl)
    return tail.to(memory_format=torch.channels_last)
