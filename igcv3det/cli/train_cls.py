"""Trains a classifier.

Examples:
    igcv3det train-cls --config cls/cifar10 --data.root cifar10.zip
    igcv3det train-cls --config cls/mobilenetv2 --config cls/cifar10 --trainer.max_epochs 10
    igcv3det train-cls --config cls/cifar10 --ckpt_path runs/cifar10/checkpoints/last.ckpt

--data.root is a folder with ``train/CLASS/*.jpg`` beside ``val`` or ``test``, a zip file of one, or
the folder that torchvision keeps CIFAR in (--data.source cifar10 --data.download true downloads
it). --config can be repeated: later files override earlier ones, and options of the command line
override all files. The run folder is ``--trainer.default_root_dir``, else ``runs/`` and the first
file's name; it receives ``config.yaml``, ``metrics.csv`` and ``checkpoints/``. If it holds a run
already, a folder with a number is created instead. Exit status: 0 trained, 1 could not be done,
2 wrong call, 130 and 143 ended by Ctrl-C and SIGTERM.
"""

from __future__ import annotations

from igcv3det.cli.training import run_training

PROGRAM = ("igcv3det.tasks.classify.train", "ClassificationCLI")


def main(args: list[str] | None = None) -> int:
    """Returns the exit status."""
    return run_training("train-cls", PROGRAM, __doc__, args)
