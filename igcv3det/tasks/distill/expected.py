"""What a student is compared with, of each batch: computed, or read where it is kept."""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from torch import Tensor, nn

from igcv3det.checkpoint import describe_detector
from igcv3det.detector import SSDLite
from igcv3det.tasks.distill.batches import Batch
from igcv3det.tasks.distill.config import DISTILLATION_PARTS
from igcv3det.tasks.distill.datamodule import DistillationDataModule
from igcv3det.tasks.distill.kept_outputs import KeptOutputs, fingerprint
from igcv3det.tasks.distill.start import detector_parts
from igcv3det.tasks.distill.student import DistillationObjective
from igcv3det.tasks.distill.teacher import Runtime, Teacher, TeacherNetwork

logger = logging.getLogger(__name__)


class ExpectedOutputs:
    """Outputs of the teacher and of the student's frozen leading parts.

    Args:
        teacher: of the student.
        student: its frozen leading parts are run.
        objective: names the outputs and the leading parts.
        runtime: what runs both; ``openvino`` is for CPUs, on a GPU ``torch`` is used.
    """

    def __init__(
        self, teacher: SSDLite, student: SSDLite, objective: DistillationObjective, runtime: Runtime
    ) -> None:
        self.teacher, self.student = teacher, student
        self.objective, self.runtime = objective, runtime
        self._teachers: dict[bool, Teacher] = {}
        self._kept: KeptOutputs | None = None

    def __call__(self, batch: Batch, *, forced: bool) -> dict[str, Tensor]:
        """Outputs by name, as `DistillationObjective.losses` takes them.

        Args:
            batch: images on the device that trains.
            forced: as `DistillationObjective.names` takes it; these are not kept.
        """
        names, device = self.objective.names(forced=forced), batch.images.device
        if not names:  # a loss on boxes alone needs no teacher
            return {}
        if self._kept is None or batch.crops is None or forced:
            return self._teacher_for(names, device, forced=forced)(batch.images)
        if self._kept.has(batch.crops):
            return {name: value.to(device) for name, value in self._kept.read(batch.crops).items()}
        found = self._teacher_for(names, device, forced=forced)(batch.images)
        self._kept.write(batch.crops, found)
        return found

    def keep(self, data: DistillationDataModule, device: torch.device, precision: str) -> None:
        """Keeps the outputs for the fixed crops of the data, if it has any.

        Args:
            data: with the crops.
            device: that trains.
            precision: of the training, in which torch runs the teacher too.
        """
        if not data.crops_per_image:
            return
        parts, prefix = detector_parts(self.student), self.objective.prefix
        leading = [m for name in DISTILLATION_PARTS[:prefix] for m in parts[name]]
        networks = {"teacher": self.teacher, "prefix": nn.ModuleList(leading)}
        names = self.objective.names(forced=False)
        # weights alone do not tell padding, epsilons, ReLUs and anchors
        own = [describe_detector(detector) for detector in (self.student, self.teacher)]
        runtime: str = self._runtime_on(device)
        if runtime == "torch":
            runtime = f"{runtime} {precision}"
        described = (names, own, runtime, *data.crops_description())
        folder = Path(data.cache) / f"outputs-{fingerprint(networks, *described)}"
        self._kept = KeptOutputs(folder, data.num_crops, names)
        if prefix and self.objective.config.teacher_forcing_steps == 0:
            data.is_needless = self._kept.has

    def flush(self) -> None:
        """Marks what was kept as done, once it is on the disk."""
        if self._kept is not None:
            self._kept.flush()

    def close(self) -> None:
        """Keeps nothing more."""
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def _runtime_on(self, device: torch.device) -> Runtime:
        if self.runtime == "openvino" and device.type != "cpu":
            logger.info("OpenVINO runs on CPUs only: on %s torch runs the teacher", device)
            return "torch"
        return self.runtime

    def _teacher_for(self, names: list[str], device: torch.device, *, forced: bool) -> Teacher:
        if forced not in self._teachers:
            runtime = self._runtime_on(device)
            prefix = self.objective.prefix
            network = TeacherNetwork(self.teacher, self.student, prefix, names, runtime)
            self._teachers[forced] = Teacher(network, runtime)
        return self._teachers[forced]
