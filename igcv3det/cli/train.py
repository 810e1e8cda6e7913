"""Trains a detector.

Examples:
    igcv3det train --config igcv3_ssdlite320_coco --data.root data/coco
    igcv3det train --config A.yaml --config debug --trainer.max_steps 100
    igcv3det train --config A.yaml --ckpt_path runs/A/checkpoints/last.ckpt

Several configuration files may be stacked: the last one wins, and the command line wins over all.
The run folder (``--trainer.default_root_dir``, else ``runs/`` and the first file's name) receives
``config.yaml``, ``metrics.csv``, ``checkpoints/`` and ``images/``; a folder that holds a run
already is not touched, the new run gets a numbered one. Exit status: 0 trained, 1 could not, 2
wrong call.
"""

from __future__ import annotations

from igcv3det.cli.training import run_training

PROGRAM = ("igcv3det.tasks.detect.train", "DetectionCLI")


def main(args: list[str] | None = None) -> int:
    """Trains as the arguments say; returns the exit status."""
    return run_training("train", PROGRAM, __doc__, args)
