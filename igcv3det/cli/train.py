"""Trains a detector.

Examples:
    igcv3det train data/mine
    igcv3det train --config igcv3_ssdlite320_coco --data.root data/coco
    igcv3det train --config A.yaml --config debug --trainer.max_steps 100
    igcv3det train --config A.yaml --ckpt_path runs/A/checkpoints/last.ckpt
    igcv3det train data/masks --task segment

The first form fine-tunes a pretrained detector on a data set of any format and chooses the options
itself: ``igcv3det train DATA --help``. --config can be repeated: later files override earlier ones,
and options of the command line override all files. --task segment trains a segmenter:
``igcv3det train DATA --task segment --help``.

The run folder is ``--trainer.default_root_dir``, else ``runs/`` and the first file's name; it
receives ``config.yaml``, ``metrics.csv``, ``checkpoints/``, ``images/`` and ``plots/``. If it holds
a run already, a folder with a number is created instead. Exit status: 0 trained, 1 could not be
done, 2 wrong call, 130 and 143 ended by Ctrl-C and SIGTERM.
"""

from __future__ import annotations

import importlib
import sys

from igcv3det.cli.command import DONE, FAILED, WRONG_CALL, run_command
from igcv3det.cli.train_data import DataCall, complete_call, is_data_call, parse_data_call
from igcv3det.cli.train_task import names_task, train_task
from igcv3det.cli.training import prepare_process, run_training, train_program

PROGRAM = ("igcv3det.tasks.detect.train", "DetectionCLI")


def main(args: list[str] | None = None) -> int:
    """Returns the exit status."""
    words = sys.argv[1:] if args is None else args
    if names_task(words):
        return train_task(words)
    if is_data_call(words):
        return _train_data(words)
    if not words:
        sys.stderr.write(
            "igcv3det train: a data set is required (igcv3det train DATA), or --config FILE\n"
            "  (all options: igcv3det train --help)\n"
        )
        return WRONG_CALL
    return run_training("train", PROGRAM, __doc__, words)


def _train_data(words: list[str]) -> int:
    def run(call: DataCall) -> int:
        prepare_process()
        arguments = complete_call(call)
        if arguments is None:
            return DONE
        program = getattr(importlib.import_module(PROGRAM[0]), PROGRAM[1])
        return train_program("train", program, arguments)

    try:
        return run_command("train", lambda given: parse_data_call(PROGRAM, given), run, words)
    except SystemExit as stop:  # after --help or a wrong call
        return stop.code if isinstance(stop.code, int) else FAILED
