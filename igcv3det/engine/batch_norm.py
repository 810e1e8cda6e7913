"""Batch normalisations whose running statistics stay, and those shared between processes."""

from __future__ import annotations

from collections.abc import Collection

from pytorch_lightning import Trainer
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from igcv3det.detector import SSDLite


def freeze_batch_norms(module: nn.Module, besides: Collection[str] = ()) -> None:
    """Makes batch normalisations use their running statistics, in place.

    Those that Lightning has synchronised between processes are included.

    Args:
        module: holds them.
        besides: names of those that stay as they are.
    """
    for name, part in module.named_modules():
        if isinstance(part, _BatchNorm) and name not in besides:
            part.eval()


def require_batch_statistics(detector: SSDLite, batch_size: int, instead: str) -> None:
    """Checks that norms that use a batch's statistics have more than one value of each channel.

    Args:
        detector: as it is trained.
        batch_size: images of a batch, of one process.
        instead: the setting that makes norms use their running statistics, for the message.

    Raises:
        ValueError: batches of one image, and feature maps of one cell.
    """
    norms = (part for part in detector.modules() if isinstance(part, nn.BatchNorm2d))
    has_single_cells = (1, 1) in detector.feature_sizes
    if batch_size == 1 and has_single_cells and any(norm.training for norm in norms):
        raise ValueError(
            "a batch of one image has no batch statistics on feature maps of 1x1: pass "
            f"--data.batch_size 2 or more if there are as many images, or {instead}"
        )


def check_sync_batch_norm(trainer: Trainer) -> None:
    """Checks that ``trainer.sync_batchnorm`` can work; it does with every ``conv_impl``.

    Raises:
        ValueError: several processes train on CPUs, where PyTorch synchronises no norms.
    """
    if trainer.world_size > 1 and trainer.strategy.root_device.type == "cpu":
        raise ValueError("trainer.sync_batchnorm needs GPUs: pass --trainer.sync_batchnorm false")
