"""Batch normalisations whose running statistics stay, and those shared between processes."""

from __future__ import annotations

import logging

from pytorch_lightning import Trainer
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from igcv3det.fastpath.conv_impl import ConvImpl, set_conv_impl

logger = logging.getLogger(__name__)


def freeze_batch_norms(module: nn.Module) -> None:
    """Makes batch normalisations use their running statistics, in place.

    Those that Lightning has synchronised between processes are included.
    """
    for part in module.modules():
        if isinstance(part, _BatchNorm):
            part.eval()


def prepare_for_sync(module: nn.Module, trainer: Trainer, conv_impl: ConvImpl) -> None:
    """Makes a module ready for ``trainer.sync_batchnorm`` of several processes, in place.

    Args:
        module: holds the network.
        trainer: that will train it.
        conv_impl: of the network; all but ``reference`` compute batch statistics themselves, so
            ``reference`` takes their place.

    Raises:
        ValueError: the processes train on CPUs, where PyTorch has no synchronised normalisation.
    """
    if trainer.world_size == 1:
        return
    if trainer.strategy.root_device.type == "cpu":
        raise ValueError("trainer.sync_batchnorm needs GPUs: pass --trainer.sync_batchnorm false")
    if conv_impl != "reference":
        logger.warning(
            "model.conv_impl %s does not share batch statistics between processes "
            "(trainer.sync_batchnorm), so reference is used",
            conv_impl,
        )
        set_conv_impl(module, "reference")
