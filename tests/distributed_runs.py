"""Trainings and validations of a tiny detector, as one process or as one of several."""

import torch
from pytorch_lightning import Callback, Trainer

from igcv3det.config import (
    AugmentConfig,
    BackboneConfig,
    DetectorConfig,
    HeadConfig,
    OptimConfig,
    PostprocessConfig,
)
from igcv3det.tasks.detect.datamodule import CocoDataModule
from igcv3det.tasks.detect.module import DetectionModule

# name: optimizer, batches a step, images of a batch of all processes together
TRAININGS = {
    "sgd": ("sgd", 1, 2),
    "adamw": ("adamw", 1, 2),
    "sgd, 2 batches a step": ("sgd", 2, 2),
    "adamw, 2 batches a step": ("adamw", 2, 2),
}
# of five images, so that one process has more batches, and of one image for two processes
VALIDATIONS = ("annotations/five.json", "annotations/one.json")
DETECTOR = DetectorConfig(
    num_classes=6,
    image_size=64,
    backbone=BackboneConfig(name="mobilenetv2", width=0.1),
    head=HeadConfig(extra_channels=(16, 16)),
    postprocess=PostprocessConfig(score_threshold=0.0),
)


class Recorded(Callback):
    """Gradients in front of every optimizer step, after the processes' have been averaged."""

    def __init__(self):
        self.gradients = []

    def on_before_optimizer_step(self, trainer, module, optimizer):
        network = getattr(module, "network", None) or module.detector
        named = network.named_parameters()
        trained = {name: p.grad.clone() for name, p in named if p.grad is not None}
        self.gradients.append(trained)


class FrozenNorms(Callback):
    """Statistics of normalisation that no batch changes, as processes have batches of their own."""

    def on_train_start(self, trainer, module):
        for part in module.modules():
            if isinstance(part, torch.nn.BatchNorm2d):
                part.eval()


def make_trainer(folder, processes, callbacks=(), **options):
    strategy = "ddp" if processes > 1 else "auto"
    return Trainer(
        **({"accelerator": "cpu", "devices": processes, "strategy": strategy} | options),
        logger=False,
        callbacks=list(callbacks),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=folder,
        use_distributed_sampler=False,
    )


def _enlarge(module):
    """Weights with which anchors' scores differ: rounding would decide the order of equal ones."""
    for name, part in module.named_modules():
        if isinstance(part, torch.nn.Conv2d) and "regression" not in name:
            torch.nn.init.kaiming_normal_(part.weight)


def train(data, folder, processes, name):
    """Gradients of every step of one epoch, and the weights at its end."""
    optimizer, accumulated, images = TRAININGS[name]
    torch.manual_seed(0)
    optim = OptimConfig(optimizer=optimizer, lr=0.01, lr_batch_size=None, warmup_steps=0)
    module = DetectionModule(detector=DETECTOR, optim=optim)
    _enlarge(module)
    recorded = Recorded()
    trainer = make_trainer(
        folder,
        processes,
        [recorded, FrozenNorms()],
        max_epochs=1,
        limit_val_batches=0,
        accumulate_grad_batches=accumulated,
        precision="64-true",
    )
    batches = CocoDataModule(
        data,
        batch_size=images // processes,
        num_workers=0,
        augment=AugmentConfig(preset="flip"),
        image_size=DETECTOR.image_size,
    )
    trainer.fit(module, datamodule=batches)
    return recorded.gradients, dict(module.detector.state_dict())


def validate(data, folder, processes, annotations):
    """COCO's figures of a detector without training."""
    torch.manual_seed(0)
    batches = CocoDataModule(
        data,
        val_annotations=annotations,
        val_batch_size=1,
        num_workers=0,
        image_size=DETECTOR.image_size,
    )
    module = DetectionModule(detector=DETECTOR, categories=batches.categories)
    _enlarge(module)
    trainer = make_trainer(folder, processes)
    trainer.validate(module, batches, verbose=False)
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


def run(data, folder, processes):
    """All of the above, by name."""
    found = {name: train(data, folder, processes, name) for name in TRAININGS}
    for annotations in VALIDATIONS:
        found[annotations] = validate(data, folder, processes, annotations)
    return found


def run_as_one_of_two(rank, folder):
    """Writes what one of two processes finds; the data is beside its folder."""
    torch.save(run(folder.parent / "data", folder, 2), folder / f"{rank}.pt")
