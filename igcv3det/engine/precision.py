"""bfloat16 only on processors that have instructions for it."""

from __future__ import annotations

import torch
from pytorch_lightning.accelerators import Accelerator

FLOAT32 = "32-true"


def fitting_precision(
    precision: str | int | None, accelerator: str | Accelerator
) -> str | int | None:
    """The precision to train in: float32 in place of bfloat16 where that would be slow.

    PyTorch runs bfloat16 on any processor, but without instructions for it (AVX-512 or ARM's) in
    slow loops: a training step of IGCV3-D-SSDLite takes twenty times as long as in float32
    (docs/research/training_speed.md). Weights have the same type in both, so runs resume across
    machines.

    Args:
        precision: ``trainer.precision``, as Lightning names it; None is its default.
        accelerator: ``trainer.accelerator``; ``auto`` is a GPU where there is one. With an object
            the precision is not changed.

    Returns:
        ``32-true`` for bfloat16 that would be slow, else ``precision``.
    """
    if not str(precision).startswith("bf16") or not _trains_on_processor(accelerator):
        return precision
    return precision if processor_computes_bfloat16() else FLOAT32


def processor_computes_bfloat16() -> bool:
    """Whether oneDNN supports bfloat16 on this processor; also True where PyTorch lacks oneDNN."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return True
    supported: bool = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return supported


def _trains_on_processor(accelerator: str | Accelerator) -> bool:
    if accelerator == "auto":
        return not (torch.cuda.is_available() or torch.backends.mps.is_available())
    return accelerator == "cpu"
