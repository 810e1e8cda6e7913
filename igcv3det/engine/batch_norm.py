"""Batch normalisations whose running statistics stay."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def freeze_batch_norms(module: nn.Module) -> None:
    """Makes batch normalisations use their running statistics, in place.

    Those that Lightning has synchronised between processes are included.
    """
    for part in module.modules():
        if isinstance(part, _BatchNorm):
            part.eval()
