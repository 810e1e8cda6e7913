"""Distillation as Lightning calls it: steps, the teacher's runs, checkpoints."""

from __future__ import annotations

import itertools
import logging
from typing import Any, Final

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.strategies import DDPStrategy
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn

from igcv3det.checkpoint import describe_detector, load_detector
from igcv3det.config import DetectorConfig, LossConfig, OptimConfig
from igcv3det.description import DESCRIPTION
from igcv3det.detection.losses import MultiBoxLoss
from igcv3det.detector import SSDLite, build_detector
from igcv3det.engine.batch_norm import require_batch_statistics
from igcv3det.engine.checkpoints import require_continuation
from igcv3det.engine.run_optimizer import run_optimizer
from igcv3det.fastpath.conv_impl import ConvImpl, set_conv_impl
from igcv3det.models.layers import BATCH_NORMS
from igcv3det.structures import Categories
from igcv3det.tasks.distill.batches import Batch
from igcv3det.tasks.distill.channel_map import build_channel_maps
from igcv3det.tasks.distill.config import DistillationConfig
from igcv3det.tasks.distill.expected import ExpectedOutputs
from igcv3det.tasks.distill.initial import initialise_student, require_comparable, student_config
from igcv3det.tasks.distill.input_size import resized, resized_targets
from igcv3det.tasks.distill.start import detector_parts, take_statistics
from igcv3det.tasks.distill.student import STAGES, DistillationObjective
from igcv3det.tasks.distill.teacher import (
    Runtime,
    Teacher,
    TeacherNetwork,
    move_to,
    part_name,
    teacher_tail,
)

logger = logging.getLogger(__name__)

_DETECTOR: Final = DetectorConfig()
_DISTILLATION: Final = DistillationConfig()
_LOSS: Final = LossConfig()
_OPTIM: Final = OptimConfig()
_STATISTICS_BATCHES = 4


class DistillationModule(LightningModule):
    """Trains a student to reproduce the outputs of its teacher.

    Args:
        teacher: Name of pretrained weights or a detector file; its classes are the student's.
        detector: Student. Where its ``image_size`` is not the teacher's, the teacher runs at the
            student's (`tasks.distill.input_size`).
        distillation: Terms of the loss, and which parts are trained.
        loss: Loss on boxes, used with ``distillation.box_weight``.
        optim: Optimizer and schedule.
        weights: Trained student to start from, a name or a file, instead of
            ``distillation.start``.
        channels_last: Memory layout of images and weights.
        conv_impl: Implementation of the student's convolutions, see `fastpath.conv_impl`.
        teacher_runtime: What runs the teacher and frozen leading parts. ``openvino`` is for CPUs;
            on a GPU ``torch`` is used.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the student has another number of classes than the teacher, or a file does not
            fit.
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
        teacher_runtime: Runtime = "torch",
    ) -> None:
        super().__init__()
        network = load_detector(teacher)
        self.optim, self.distillation = optim, distillation
        detector = student_config(detector, network.config, distillation, weights)
        require_comparable(detector, network.config, teacher, distillation)
        self.detector: SSDLite = build_detector(detector, network.categories)
        self.channel_maps = build_channel_maps(self.detector, network, distillation.mapped_stages)
        tail = teacher_tail(network, conv_impl) if distillation.teacher_tail else None
        self.objective = DistillationObjective(distillation, self.channel_maps, tail)
        self.objective.require_same_maps(self.detector, network)
        self.criterion = MultiBoxLoss(loss, detector.head.activation, detector.variances)
        self._teacher = (network,)  # in a tuple, so that it is no submodule
        self.expected = ExpectedOutputs(network, self.detector, self.objective, teacher_runtime)
        self._takes_statistics = weights is None and distillation.start == "shared"
        self._freezes_bn_stats = False
        initialise_student(self.detector, network, distillation, weights)
        self._frozen = self._freeze()
        set_conv_impl(self.detector, conv_impl)
        if channels_last:
            self.detector.to(memory_format=torch.channels_last)
        self.losses: dict[str, Tensor] = {}
        """The latest batch's terms, detached."""
        self.max_steps: int | None = None
        """Step at which the schedule ends, if before the trainer's own end."""

    def _freeze(self) -> list[nn.Module]:
        parts = detector_parts(self.detector)
        frozen = [module for name in self.distillation.frozen for module in parts[name]]
        for module in frozen:
            module.requires_grad_(False)
        return frozen

    @property
    def _sizes(self) -> tuple[int, int]:
        return self.detector.config.image_size, self._teacher[0].config.image_size

    @property
    def categories(self) -> Categories:
        """The teacher's, and so the student's."""
        return self.detector.categories

    def on_fit_start(self) -> None:
        """Checks that data and strategy fit the loss.

        Raises:
            ValueError: ``box_weight`` is set, but the data has no boxes; crops are not of the
                teacher's input size, and ``box_weight`` is set or the student has another one; or
                several processes train, some of whose parameters get no gradient.
        """
        self._require_float32()
        self._require_gradients()
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        size, of_teacher = self._sizes
        has_boxes = self.distillation.box_weight > 0
        if has_boxes and not data.boxes:
            raise ValueError("model.distillation.box_weight is set: data.boxes must name files")
        if data.crop.size != of_teacher and (has_boxes or size != of_teacher):
            why = (
                "model.detector.image_size is not the teacher's"
                if size != of_teacher
                else "model.distillation.box_weight is set"
            )
            raise ValueError(
                f"{why}: data.crop.size must be the teacher's {of_teacher}, it is {data.crop.size}"
            )

    def _require_float32(self) -> None:
        types = {parameter.dtype for parameter in self.detector.parameters()}
        if types != {torch.float32}:
            raise ValueError(
                f"trainer.precision {self.trainer.precision}: the student would have other numbers "
                "than the teacher: pass --trainer.precision 32-true, 16-mixed or bf16-mixed"
            )

    def _require_gradients(self) -> None:
        strategy = self.trainer.strategy
        if not isinstance(strategy, DDPStrategy) or strategy.world_size == 1:
            return
        unused = self.objective.unused_parts()
        finds_unused = strategy._ddp_kwargs.get("find_unused_parameters", False)
        if unused and not finds_unused:
            raise ValueError(
                f"parts that are trained but not always part of the loss ({', '.join(unused)}): "
                "pass --trainer.strategy ddp_find_unused_parameters_true"
            )

    def train(self, mode: bool = True) -> DistillationModule:
        """Frozen parts stay in evaluation mode, and norms whose statistics are fixed."""
        super().train(mode)
        for module in self._frozen:
            module.eval()
        if self._freezes_bn_stats:
            for part in self.detector.modules():
                if isinstance(part, BATCH_NORMS):
                    part.eval()
        return self

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Fixes the norms' statistics after ``distillation.batch_statistics_steps``."""
        self._fix_statistics()

    def _fix_statistics(self) -> None:
        steps = self.distillation.batch_statistics_steps
        if steps is not None and not self._freezes_bn_stats and self.trainer.global_step >= steps:
            self._freezes_bn_stats = True
            self.train()

    def on_train_start(self) -> None:
        """Gives the stages the teacher's statistics at the start of a run; checks the batch.

        Raises:
            ValueError: batches of one image, whose statistics on 1x1 maps do not exist.
        """
        self.train()  # Lightning keeps the modes that it finds
        self._fix_statistics()
        size = self.trainer.train_dataloader.batch_size  # type: ignore[union-attr]
        instead = "--model.distillation.batch_statistics_steps 0"
        require_batch_statistics(self.detector, size, instead)
        if self._takes_statistics and self.trainer.global_step == 0:
            take_statistics(self.detector, self._teacher_features())
            _broadcast(self.detector)
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        self.expected.keep(data, self.device, self.trainer.precision)

    def on_train_epoch_end(self) -> None:
        """Marks the outputs of fixed crops that were kept as done."""
        self.expected.flush()

    def on_fit_end(self) -> None:
        """Closes the files of kept outputs."""
        self.expected.close()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of one batch."""
        forced = self.trainer.global_step < self.distillation.teacher_forcing_steps
        terms, size = self._terms(batch, forced=forced), len(batch.images)
        loss = self.objective.total(terms)
        self.losses = {name: term.detach() for name, term in terms.items()}
        self.log("train/loss", loss.detach(), prog_bar=True, batch_size=size)
        self.log_dict(
            {f"train/{name}": term for name, term in self.losses.items()}, batch_size=size
        )
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """The same terms on held-out images, averaged over all processes."""
        terms, size = self._terms(batch, forced=False), len(batch.images)
        shown = {"val/loss": self.objective.total(terms)}
        self.log_dict(shown, prog_bar=True, batch_size=size, sync_dist=True)
        each = {f"val/{name}": term for name, term in terms.items()}
        self.log_dict(each, batch_size=size, sync_dist=True)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Optimizer and schedule for this run's batch size and length.

        Raises:
            ValueError: the run has no end, which the schedule needs.
        """
        return run_optimizer(self.trainer, self.detector, self.optim, self.max_steps)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the student's description."""
        checkpoint[DESCRIPTION] = describe_detector(self.detector)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuses what would not be a continuation (ValueError)."""
        require_continuation(checkpoint, describe_detector(self.detector), self.optim.ema_decay)

    def _terms(self, batch: Batch, *, forced: bool) -> dict[str, Tensor]:
        images, targets, _ = batch
        expected = self.expected(batch, forced=forced)
        if self.objective.tail is not None:
            move_to(self.objective.tail, images.device)
        if self.objective.prefix == 0:  # else the student reads the prefix' features
            images = resized(images, *self._sizes)
        terms, outputs = self.objective.losses(self.detector, images, expected, forced=forced)
        if outputs is not None and self.distillation.box_weight > 0:
            targets = resized_targets(targets, *self._sizes)
            terms |= self.criterion(outputs, self.detector.anchors, targets)
        return terms

    def _teacher_features(self) -> list[dict[int, Tensor]]:
        names = [part_name(part) for part in STAGES]
        network = TeacherNetwork(self._teacher[0], self.detector, 0, names, "torch")
        teacher = Teacher(network, "torch")
        datamodule = self.trainer.datamodule  # type: ignore[attr-defined]
        features = []
        for batch in itertools.islice(datamodule.train_dataloader(), _STATISTICS_BATCHES):
            images = datamodule.on_after_batch_transfer(batch, 0).images
            found = teacher(images.to(self.device))
            features.append({part: found[part_name(part)] for part in STAGES})
        return features


def _broadcast(network: nn.Module) -> None:
    """Gives all processes the weights of the first: each saw other images."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        for value in network.state_dict().values():
            torch.distributed.broadcast(value, 0)
