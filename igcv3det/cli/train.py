"""Trains a detector.

Usage:
    python tools/train_det.py --config configs/igcv3_ssdlite320_coco.yaml --data.root data/coco
    python tools/train_det.py --config A.yaml --config configs/debug.yaml --trainer.max_steps 100
    python tools/train_det.py --config A.yaml --ckpt_path runs/A/checkpoints/last.ckpt

Several configuration files may be stacked: the last one wins, and the command line wins over all.
The run folder (``--trainer.default_root_dir``, else ``runs/`` and the first file's name) receives
``config.yaml``, ``metrics.csv``, ``checkpoints/`` and ``images/``; a folder that holds a run
already is left alone and a numbered one is taken. Exit status: 0 trained, 1 could not, 2 wrong
call.
"""

from __future__ import annotations

import os

# Before torch: threads that wait spin for a moment, not so long that loaders lack the cores
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

from igcv3det.tasks.detect.train import DetectionCLI


def main(args: list[str] | None = None) -> int:
    """Trains as the arguments say; None takes the command line's."""
    return DetectionCLI.program_main(args)
