"""One training step as the tasks take it, on random images and boxes, to be timed."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from igcv3det.checkpoint import load_detector
from igcv3det.config import LossConfig, OptimConfig
from igcv3det.detection.losses import MultiBoxLoss
from igcv3det.detector import SSDLite
from igcv3det.engine.malloc import tune_malloc
from igcv3det.engine.optim import build_optimizer
from igcv3det.fastpath.conv_impl import ConvImpl, set_conv_impl
from igcv3det.measure.targets import BenchmarkTarget, resized
from igcv3det.models.layers import BATCH_NORMS
from igcv3det.structures import Target

OBJECTS = 7
"""In each image; COCO has 7.3 on average."""


class TrainingStepOptions(NamedTuple):
    """How a training step is computed.

    Attributes:
        conv_impl: see `set_conv_impl`; ``fast`` is channels-last, ``reference`` contiguous.
        freeze_bn_stats: the statistics of batch normalisations are frozen.
    """

    conv_impl: ConvImpl
    freeze_bn_stats: bool = False


def open_training_step(
    target: BenchmarkTarget, options: TrainingStepOptions
) -> Callable[[], object]:
    """A call of forward pass, loss, backward pass and optimizer.

    Args:
        target: a checkpoint or configuration; bf16 is PyTorch's autocast.
        options: how it is computed.

    Raises:
        FileNotFoundError, ValueError: from `load_detector`.
    """
    torch.set_num_threads(target.threads)
    tune_malloc()  # as the training commands do
    detector = resized(load_detector(target.path), target.image_size).train()
    for module in detector.modules() if options.freeze_bn_stats else ():
        if isinstance(module, BATCH_NORMS):
            module.eval()
    set_conv_impl(detector, options.conv_impl)
    is_fast = options.conv_impl == "fast"
    memory_format = torch.channels_last if is_fast else torch.contiguous_format
    detector.to(memory_format=memory_format)
    config = detector.config
    size = config.image_size
    images = torch.randn(target.batch, 3, size, size).contiguous(memory_format=memory_format)
    targets = [_random_target(detector, index) for index in range(target.batch)]
    optimizer = build_optimizer(detector, OptimConfig(lr=1e-4), 1e-4)
    criterion = MultiBoxLoss(LossConfig(), config.head.activation, config.variances)

    def step() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=target.precision == "bf16"):
            outputs = detector(images)
        loss: Tensor = sum(criterion(outputs, detector.anchors, targets).values(), torch.zeros(()))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return loss.detach()

    return step


def _random_target(detector: SSDLite, image_id: int) -> Target:
    size = detector.config.image_size
    corners = torch.rand(OBJECTS, 2) * 0.6 * size
    boxes = torch.cat([corners, corners + (0.1 + 0.3 * torch.rand(OBJECTS, 2)) * size], dim=1)
    labels = torch.randint(1, detector.config.num_classes + 1, (OBJECTS,))
    return Target(boxes, labels, torch.zeros(0, 4), image_id, (size, size))
