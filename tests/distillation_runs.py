"""Trainings and validations of a tiny student, as one process or as one of several."""

import numpy as np
import torch
from distillation_networks import built, small_config
from distributed_runs import TRAININGS, Recorded, make_trainer

from igcv3det.checkpoint import save_detector
from igcv3det.config import OptimConfig
from igcv3det.engine.ema import AveragedWeights
from igcv3det.io.images import write_image
from igcv3det.tasks.distill.config import CropConfig, DistillationConfig
from igcv3det.tasks.distill.datamodule import DistillationDataModule
from igcv3det.tasks.distill.module import DistillationModule

# every process draws the crops of its own batches: here they are the images themselves
WHOLE = CropConfig(size=64, min_scale=1.0, max_scale=1.0, max_aspect=1.0, flip=0.0, colour=0.0)
# norms use fixed statistics, as processes have batches of their own
WHOLE_STUDENT = DistillationConfig(batch_statistics_steps=0)
MAPPED = DistillationConfig(frozen=("stem", "stage1"), mapped_stages=(4,), batch_statistics_steps=0)
# name: configuration, one of TRAININGS
DISTILLATIONS = {
    "sgd": (WHOLE_STUDENT, "sgd"),
    "adamw, 2 batches a step": (WHOLE_STUDENT, "adamw, 2 batches a step"),
    "a frozen prefix and a mapped stage": (MAPPED, "sgd"),
}


def write_inputs(folder, images):
    """A teacher and images of noise."""
    save_detector(built(small_config(), 1), folder / "teacher.safetensors")
    (folder / "images").mkdir()
    random = np.random.default_rng(0)
    for number in range(images):
        small = random.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        write_image(folder / "images" / f"{number:02}.png", small.repeat(16, 0).repeat(16, 1))


def module(folder, config, optimizer="sgd", teacher_runtime="torch"):
    torch.manual_seed(0)
    return DistillationModule(
        str(folder / "teacher.safetensors"),
        detector=small_config(),
        distillation=config,
        # small: rounding would grow from step to step in a student whose features are far off
        optim=OptimConfig(optimizer=optimizer, lr=1e-6, lr_batch_size=None, warmup_steps=0),
        teacher_runtime=teacher_runtime,
    )


def data(folder, batch_size, on_device=False):
    return DistillationDataModule(
        [str(folder / "images")],
        side=WHOLE.size,
        cache=str(folder / "cache"),
        batch_size=batch_size,
        held_out=4,
        crop=WHOLE,
        on_device=on_device,
    )


def train(folder, processes, name):
    """Gradients of every step of one epoch, and the weights at its end."""
    config, training = DISTILLATIONS[name]
    optimizer, accumulated, images = TRAININGS[training]
    student = module(folder, config, optimizer)
    recorded = Recorded()
    trainer = make_trainer(
        folder,
        processes,
        [recorded],
        max_epochs=1,
        limit_val_batches=0,
        accumulate_grad_batches=accumulated,
    )
    trainer.fit(student, datamodule=data(folder, images // processes))
    return recorded.gradients, dict(student.detector.state_dict())


def fit(folder, config, teacher_runtime="torch", on_device=False, **options):
    """The figures of a training of one epoch and its validation."""
    averaged = AveragedWeights(0.9, "detector")
    trainer = make_trainer(folder, 1, [averaged], max_epochs=1, **options)
    student = module(folder, config, "adamw", teacher_runtime)
    trainer.fit(student, datamodule=data(folder, 2, on_device))
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


def validate(folder, processes):
    """All figures of an untrained student, in batches of one image."""
    trainer = make_trainer(folder, processes)
    trainer.validate(module(folder, WHOLE_STUDENT), data(folder, 1), verbose=False)
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


def run(folder, processes):
    """All of the above, by name."""
    found = {name: train(folder, processes, name) for name in DISTILLATIONS}
    return found | {"validation": validate(folder, processes)}


def run_as_one_of_two(rank, folder):
    """Writes what one of two processes finds; the images are beside its folder."""
    torch.save(run(folder.parent, 2), folder / f"{rank}.pt")
