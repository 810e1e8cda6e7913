"""Trains a detector to reproduce the outputs of a teacher.

Examples:
    igcv3det distill --config A.yaml --model.teacher teacher.safetensors
    igcv3det distill --config A.yaml --ckpt_path runs/A/checkpoints/last.ckpt

Configuration files, run folder and resuming are as in ``igcv3det train``. Exit status: 0 trained, 1
could not be done, 2 wrong call.
"""

from __future__ import annotations

from igcv3det.cli.training import run_training

PROGRAM = ("igcv3det.tasks.distill.train", "DistillationCLI")


def main(args: list[str] | None = None) -> int:
    """Trains as the arguments say; returns the exit status."""
    return run_training("distill", PROGRAM, __doc__, args)
