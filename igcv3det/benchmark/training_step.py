"""One training step as `igcv3det.training` takes it, on made-up images and boxes, to be timed."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from igcv3det.benchmark.contenders import Contender, resized
from igcv3det.checkpoint import load_detector
from igcv3det.config import LossConfig, OptimConfig
from igcv3det.detection.losses import MultiBoxLoss
from igcv3det.detector import SSDLite
from igcv3det.models.execution import Execution, set_execution
from igcv3det.structures import Target
from igcv3det.training.heap import keep_freed_memory
from igcv3det.training.optim import build_optimizer

OBJECTS = 7
"""In each image; COCO has 7.3 on average."""


class StepForm(NamedTuple):
    """How a training step is computed.

    Attributes:
        execution: see `set_execution`; ``fast`` is channels-last, ``reference`` contiguous.
        keep_norm_statistics: batch normalisations keep their statistics.
    """

    execution: Execution
    keep_norm_statistics: bool = False


def open_training_step(contender: Contender, form: StepForm) -> Callable[[], object]:
    """A call of forward pass, loss, backward pass and optimizer.

    Args:
        contender: a checkpoint or configuration; bf16 is PyTorch's autocast.
        form: how it is computed.

    Raises:
        FileNotFoundError, ValueError: as `load_detector` does.
    """
    torch.set_num_threads(contender.threads)
    keep_freed_memory()  # as the training tools do
    detector = resized(load_detector(contender.path), contender.image_size).train()
    for part in detector.modules() if form.keep_norm_statistics else ():
        if isinstance(part, nn.BatchNorm2d):
            part.eval()
    set_execution(detector, form.execution)
    layout = torch.channels_last if form.execution == "fast" else torch.contiguous_format
    detector.to(memory_format=layout)
    config = detector.config
    size = config.image_size
    images = torch.randn(contender.batch, 3, size, size).contiguous(memory_format=layout)
    targets = [_target(detector, index) for index in range(contender.batch)]
    optimizer = build_optimizer(detector, OptimConfig(lr=1e-4), 1e-4)
    criterion = MultiBoxLoss(LossConfig(), config.head.activation, config.variances)

    def step() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=contender.precision == "bf16"):
            outputs = detector(images)
        loss: Tensor = sum(criterion(outputs, detector.anchors, targets).values(), torch.zeros(()))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return loss.detach()

    return step


def _target(detector: SSDLite, image_id: int) -> Target:
    size = detector.config.image_size
    corners = torch.rand(OBJECTS, 2) * 0.6 * size
    boxes = torch.cat([corners, corners + (0.1 + 0.3 * torch.rand(OBJECTS, 2)) * size], dim=1)
    labels = torch.randint(1, detector.config.num_classes + 1, (OBJECTS,))
    return Target(boxes, labels, torch.zeros(0, 4), image_id, (size, size))
