"""Trains a classifier.

Examples:
    igcv3det train-cls --config cls/cifar10 --data.root cifar10.zip
    igcv3det train-cls --config cls/mobilenetv2 --config cls/cifar10 --trainer.max_epochs 10
    igcv3det train-cls --config cls/cifar10 --ckpt_path runs/cifar10/checkpoints/last.ckpt

--data.root is a folder with ``train/CLASS/*.jpg`` and ``val`` or ``test``, a zip file of one, or
the folder that torchvision keeps CIFAR in (--data.source cifar10 --data.download true fetches it).
Several configuration files may be stacked: the last one wins, and the command line wins over all.
The run folder (``--trainer.default_root_dir``, else ``runs/`` and the first file's name) receives
``config.yaml``, ``metrics.csv`` and ``checkpoints/``; a folder that holds a run already is not
touched, the new run gets a numbered one. Exit status: 0 trained, 1 could not, 2 wrong call.
"""

from __future__ import annotations

from igcv3det.cli.training import run_training

PROGRAM = ("igcv3det.tasks.classify.train", "ClassificationCLI")


def main(args: list[str] | None = None) -> int:
    """Trains as the arguments say; returns the exit status."""
    return run_training("train-cls", PROGRAM, __doc__, args)
