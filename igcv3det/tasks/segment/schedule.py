"""Learning rate of segmentation: a warm-up, then half a cosine or a power of the remaining run."""

from __future__ import annotations

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from igcv3det.config import OptimConfig
from igcv3det.engine.optim import lr_factor, warmup_steps
from igcv3det.tasks.segment.config import DecayConfig


def decay_factor(step: int, total_steps: int, optim: OptimConfig, config: DecayConfig) -> float:
    """Learning rate of an optimizer step as a share of the peak.

    Args:
        step: from 0.
        total_steps: optimizer steps of the whole run.
        optim: warm-up and final share.
        config: curve.

    Source: ``poly`` is DeepLab's, arXiv 1606.00915, section 4.1.1.

    Example:
        >>> optim = OptimConfig(warmup_steps=0)
        >>> [round(decay_factor(step, 10, optim, DecayConfig(power=2)), 2) for step in (0, 5, 10)]
        [1.0, 0.25, 0.0]
    """
    warmup = warmup_steps(optim, total_steps)
    if config.curve == "cosine" or step < warmup:
        return lr_factor(step, total_steps, optim)
    left = 1 - min(1.0, (step - warmup) / max(1, total_steps - warmup))
    return float(optim.final_lr + (1 - optim.final_lr) * left**config.power)


def build_decay(
    optimizer: Optimizer, optim: OptimConfig, total_steps: int, config: DecayConfig
) -> LambdaLR:
    """`decay_factor` as a scheduler that is stepped after every optimizer step."""
    return LambdaLR(optimizer, lambda step: decay_factor(step, total_steps, optim, config))
