"""Trainings and validations of a tiny classifier, as one process or as one of several."""

import torch
from distributed_runs import FrozenNorms, Recorded, make_trainer

from igcv3det.config import BackboneConfig, OptimConfig
from igcv3det.tasks.classify.config import ClassifierConfig
from igcv3det.tasks.classify.datamodule import ClassificationDataModule
from igcv3det.tasks.classify.module import ClassificationModule

CLASSIFIER = ClassifierConfig(
    num_classes=6,
    image_size=16,
    strides=(2, 1, 1, 2, 1, 1, 1, 1),
    backbone=BackboneConfig(width=0.125, repeats=(1, 1, 1, 1, 1, 1, 1)),
)


def train(folder, processes, **options):
    """Gradients of every step of one epoch, and the figures of its validation."""
    torch.manual_seed(0)
    optim = OptimConfig(optimizer="sgd", lr=1e-3, lr_batch_size=None, warmup_steps=0)
    recorded = Recorded()
    trainer = make_trainer(folder, processes, [recorded, FrozenNorms()], max_epochs=1, **options)
    # eleven images to measure on, one at a time: one process has one more than the other
    batches = ClassificationDataModule(
        source="shapes", drawn=(12, 11), batch_size=4 // processes, val_batch_size=1, image_size=16
    )
    trainer.fit(ClassificationModule(CLASSIFIER, optim), datamodule=batches)
    figures = {name: float(value) for name, value in trainer.callback_metrics.items()}
    return recorded.gradients, {n: figures[n] for n in ("val/loss", "val/top1", "val/top5")}


def run_as_one_of_two(rank, folder):
    """Writes what one of two processes finds."""
    torch.save(train(folder, 2), folder / f"{rank}.pt")
