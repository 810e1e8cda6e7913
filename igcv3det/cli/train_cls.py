"""Trains a classifier.

Usage:
    python tools/train_cls.py --config configs/cls/igcv3_cifar10.yaml --data.root cifar10.zip
    python tools/train_cls.py --config A.yaml --config B.yaml --trainer.max_epochs 10
    python tools/train_cls.py --config A.yaml --ckpt_path runs/A/checkpoints/last.ckpt

--data.root is a folder with ``train/CLASS/*.jpg`` and ``val`` or ``test``, a zip file of one, or
the folder that torchvision keeps CIFAR in (--data.source cifar10 --data.download true fetches it).
Several configuration files may be stacked: the last one wins, and the command line wins over all.
The run folder (``--trainer.default_root_dir``, else ``runs/`` and the first file's name) receives
``config.yaml``, ``metrics.csv`` and ``checkpoints/``; a folder that holds a run already is left
alone and a numbered one is taken. Exit status: 0 trained, 1 could not, 2 wrong call.
"""

from __future__ import annotations

import os

# Before torch: threads that wait spin for a moment, not so long that loaders lack the cores
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

from igcv3det.tasks.classify.train import ClassificationCLI


def main(args: list[str] | None = None) -> int:
    """Trains as the arguments say; None takes the command line's."""
    return ClassificationCLI.program_main(args)
