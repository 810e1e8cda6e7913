"""Trains a detector to reproduce the outputs of a teacher.

Examples:
    igcv3det distill --config A.yaml --model.teacher teacher.safetensors
    igcv3det distill --config A.yaml --ckpt_path runs/A/checkpoints/last.ckpt

Configuration files, run folder and resuming are as in ``igcv3det train``. Exit status: 0 trained, 1
could not, 2 wrong call.
"""

from __future__ import annotations

from igcv3det.cli.command import run_command
from igcv3det.cli.training import prepare_process, train


def main(args: list[str] | None = None) -> int:
    """Trains as the arguments say; None takes the command line's."""
    return run_command("distill", list, _run, args)


def _run(args: list[str]) -> int:
    prepare_process()
    from igcv3det.tasks.distill.train import DistillationCLI

    return train(DistillationCLI, args)
