"""How long a training step takes here, measured in a few steps before a run."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch

from igcv3det.config import DetectorConfig, OptimConfig, PreprocessConfig
from igcv3det.datasets.store import AnnotationStore
from igcv3det.engine.optim import build_optimizer
from igcv3det.engine.precision import fitting_precision
from igcv3det.preprocess import Preprocess
from igcv3det.structures import Target
from igcv3det.tasks.detect.batches import collate
from igcv3det.tasks.detect.dataset import CocoDetection
from igcv3det.tasks.detect.module import DetectionModule
from igcv3det.tasks.detect.transforms import EvalTransform

_STEPS = 3


class StepTime(NamedTuple):
    """Seconds of a training step.

    Attributes:
        compute: forward, backward and optimizer, with all cores.
        load: reading and preprocessing the batch, with one core.
    """

    compute: float
    load: float


def measure_step(
    store: AnnotationStore, images: Path, detector: DetectorConfig, batch_size: int, precision: str
) -> StepTime:
    """Trains a few steps with random weights on images of the data set.

    Args:
        store: the training data.
        images: folder of its images.
        detector: the detector to train.
        batch_size: images of a step.
        precision: of the trainer.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    module = DetectionModule(detector, channels_last=True, conv_impl="fast").train().to(device)
    optimizer = build_optimizer(module.detector, OptimConfig(optimizer="adamw"), 1e-5)
    preprocess = Preprocess(PreprocessConfig(), detector.image_size)
    dataset = CocoDetection(store, images, EvalTransform(preprocess))
    is_bf16 = "bf16" in str(fitting_precision(precision, "auto"))
    times: list[StepTime] = []
    for step in range(_STEPS + 1):
        start = time.perf_counter()
        rows = [(step * batch_size + offset) % len(store) for offset in range(batch_size)]
        images_of_step, targets = collate([dataset[row] for row in rows])
        loaded = time.perf_counter()
        with torch.autocast(device, torch.bfloat16, enabled=is_bf16):
            outputs = module(images_of_step.to(device))
        loss, _ = module._losses(outputs, [_moved(target, device) for target in targets])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        float(loss.detach())  # a GPU has computed all of it only then
        times.append(StepTime(time.perf_counter() - loaded, loaded - start))
    return StepTime(_median(times, 0), _median(times, 1))


def _moved(target: Target, device: str) -> Target:
    boxes, labels, crowds = (part.to(device) for part in target[:3])
    return target._replace(boxes=boxes, labels=labels, crowds=crowds)


def _median(times: Sequence[StepTime], column: int) -> float:
    """Without the first step, in which memory is allocated and kernels are chosen."""
    return median(step[column] for step in times[1:])
