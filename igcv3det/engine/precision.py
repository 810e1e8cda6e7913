"""bfloat16 only where the processor computes it."""

from __future__ import annotations

import torch
from pytorch_lightning.accelerators import Accelerator

FLOAT32 = "32-true"


def fitting_precision(
    precision: str | int | None, accelerator: str | Accelerator
) -> str | int | None:
    """The precision to train in: float32 for bfloat16 on a processor that does not compute it.

    PyTorch computes bfloat16 on any processor; without instructions for it (AVX-512 or ARM's) in
    slow loops: a training step of IGCV3-D-SSDLite takes twenty times as long as in float32
    (docs/research/training_speed.md). Weights are the same in both, so runs resume across machines.

    Args:
        precision: ``trainer.precision``, as Lightning names it; None is its default.
        accelerator: ``trainer.accelerator``; ``auto`` is a GPU where there is one, and an object of
            the caller's own is left alone.

    Returns:
        ``32-true`` for any bfloat16 that would be slow, else the one given.
    """
    if not str(precision).startswith("bf16") or not _trains_on_processor(accelerator):
        return precision
    return precision if processor_computes_bfloat16() else FLOAT32


def processor_computes_bfloat16() -> bool:
    """Whether oneDNN has bfloat16 for this processor; True too where PyTorch lacks oneDNN."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return True
    supported: bool = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return supported


def _trains_on_processor(accelerator: str | Accelerator) -> bool:
    if accelerator == "auto":
        return not (torch.cuda.is_available() or torch.backends.mps.is_available())
    return accelerator == "cpu"
