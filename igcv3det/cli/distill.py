"""Teaches a detector what another one computes.

Usage:
    python tools/convert_tf.py FOLDER teacher.safetensors
    python tools/distill.py --config A.yaml --model.teacher teacher.safetensors
    python tools/distill.py --config A.yaml --ckpt_path runs/A/checkpoints/last.ckpt

Everything else is as in ``tools/train_det.py``. Exit status: 0 trained, 1 could not, 2 wrong call.
"""

from __future__ import annotations

import os

# Before torch: threads that wait spin for a moment, not so long that loaders lack the cores
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

from igcv3det.tasks.distill.train import DistillationCLI


def main(args: list[str] | None = None) -> int:
    """Trains as the arguments say; None takes the command line's."""
    return DistillationCLI.program_main(args)
