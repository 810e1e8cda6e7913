"""Batch normalisations whose running statistics stay, and those shared between processes."""

from __future__ import annotations

from pytorch_lightning import Trainer
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def freeze_batch_norms(module: nn.Module) -> None:
    """Makes batch normalisations use their running statistics, in place.

    Those that Lightning has synchronised between processes are included.
    """
    for part in module.modules():
        if isinstance(part, _BatchNorm):
            part.eval()


def check_sync_batch_norm(trainer: Trainer) -> None:
    """Checks that ``trainer.sync_batchnorm`` can work; it does with every ``conv_impl``.

    Raises:
        ValueError: several processes train on CPUs, where PyTorch synchronises no norms.
    """
    if trainer.world_size > 1 and trainer.strategy.root_device.type == "cpu":
        raise ValueError("trainer.sync_batchnorm needs GPUs: pass --trainer.sync_batchnorm false")
