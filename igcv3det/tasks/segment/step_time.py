"""How long a training step takes here, measured in a few steps before a run."""

from __future__ import annotations

import time
from statistics import median

import torch

from igcv3det.config import OptimConfig
from igcv3det.engine.optim import build_optimizer
from igcv3det.engine.precision import fitting_precision
from igcv3det.tasks.detect.step_time import StepTime
from igcv3det.tasks.segment.batches import MaskedImages, stack_samples
from igcv3det.tasks.segment.config import MaskAugmentConfig, SegmenterConfig
from igcv3det.tasks.segment.datamodule import MaskDataModule
from igcv3det.tasks.segment.module import SegmentationModule
from igcv3det.tasks.segment.transforms import MaskTrainTransform

_STEPS = 3


def measure_step(
    data: MaskDataModule, config: SegmenterConfig, batch_size: int, precision: str
) -> StepTime:
    """Trains a few steps with random weights on images of the data set.

    Args:
        data: the data set.
        config: the segmenter to train.
        batch_size: images of a step.
        precision: of the trainer.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    module = SegmentationModule(
        config, classes=data.class_labels, channels_last=True, conv_impl="fast"
    )
    module.train().to(device)
    optimizer = build_optimizer(module.segmenter, OptimConfig(optimizer="adamw"), 1e-5)
    transform = MaskTrainTransform(MaskAugmentConfig(), config)
    dataset = MaskedImages(data.train_scan.samples, data.class_labels, transform)
    is_bf16 = "bf16" in str(fitting_precision(precision, "auto"))
    times: list[StepTime] = []
    for step in range(_STEPS + 1):
        start = time.perf_counter()
        rows = [(step * batch_size + offset) % len(dataset) for offset in range(batch_size)]
        batch = stack_samples([dataset[row] for row in rows])
        batch = batch._replace(
            images=batch.images.to(device), masks=[mask.to(device) for mask in batch.masks]
        )
        loaded = time.perf_counter()
        with torch.autocast(device, torch.bfloat16, enabled=is_bf16):
            loss = module.loss(batch)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        float(loss.detach())  # a GPU has computed all of it only then
        times.append(StepTime(time.perf_counter() - loaded, loaded - start))
    # without the first step, in which memory is allocated and kernels are chosen
    return StepTime(*(median(column) for column in zip(*times[1:], strict=True)))
