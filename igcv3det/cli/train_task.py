r"""Trains a segmenter: ``igcv3det train DATA --task segment``.

Examples:
    igcv3det train data/masks --task segment
    igcv3det train data/masks --task segment --weights igcv3-d --ignore 11 --output runs/masks
    igcv3det train data/masks --task segment --minutes 10
    igcv3det train --task segment --config A.yaml --ckpt_path runs/A/checkpoints/last.ckpt

DATA is a folder with images in ``SPLIT/`` and PNG masks of the same names in ``SPLIT_labels/``, or
of Pascal VOC's layout (``SegmentationClass``, ``ImageSets/Segmentation``). Pixels of a mask are
labels 0, 1, 2, ...; 255 is ignored. Weights (of which the backbone is taken), input size, batch,
weights of the classes and length are chosen by the data, and each choice is printed with its
reason. Every other key of the training is an option too, and has precedence; ``--config FILE`` adds
a configuration file.

The run folder (--output, else ``runs/`` and the name of DATA) receives ``config.yaml``,
``metrics.csv`` and ``checkpoints/``.

Exit status: 0 trained, 1 could not be done, 2 wrong call, 130 and 143 ended by Ctrl-C and SIGTERM.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys

from igcv3det.cli.arguments import integers, positive_float, positive_int
from igcv3det.cli.command import DEBUG, FAILED, WRONG_CALL, command_parser, run_command
from igcv3det.cli.train_data import DataCall, divided
from igcv3det.cli.training import prepare_process, run_training, train_program
from igcv3det.cli.training_call import check_call

PROGRAM = ("igcv3det.tasks.segment.train", "SegmentationCLI")
COMMAND = "train --task segment"
CONFIG = "segment/finetune"
TASK, TASKS = "--task", ("detect", "segment")
_SHORT = (
    *("--weights", "--epochs", "--minutes", "--output", "--classes", "--ignore"),
    *("-h", "--help", DEBUG),
)
_WITHOUT_VALUE = ("-h", "--help", DEBUG, "--print_config")


def names_task(words: list[str]) -> bool:
    """Whether a call of ``train`` has ``--task``."""
    return any(word.partition("=")[0] == TASK for word in words)


def train_task(words: list[str]) -> int:
    """Trains for the task that a call names.

    Returns:
        The exit status.
    """
    task, rest = _taken(words)
    if task not in TASKS:
        sys.stderr.write(f"igcv3det train: argument {TASK}: {task!r} is none of {list(TASKS)}\n")
        return WRONG_CALL
    if task == "detect":
        from igcv3det.cli.train import main

        return main(rest)
    short, _ = divided(rest, _SHORT)
    if any(word not in _WITHOUT_VALUE for word in short):
        return _train_data(rest)
    if not rest:
        sys.stderr.write(
            f"igcv3det {COMMAND}: a data set is required (igcv3det train DATA --task segment), or "
            f"--config FILE\n  (all options: igcv3det {COMMAND} --help)\n"
        )
        return WRONG_CALL
    return run_training(COMMAND, PROGRAM, __doc__, rest)


def _taken(words: list[str]) -> tuple[str, list[str]]:
    """The task, and the call without it; of several the last."""
    task, rest = "", []
    given = iter(words)
    for word in given:
        name, equals, value = word.partition("=")
        if name == TASK:
            task = value if equals else next(given, "")
        else:
            rest.append(word)
    return task, rest


def _train_data(words: list[str]) -> int:
    def run(call: DataCall) -> int:
        prepare_process()
        arguments = _complete(call)
        program = getattr(importlib.import_module(PROGRAM[0]), PROGRAM[1])
        return train_program("train", program, arguments)

    try:
        return run_command("train", _parse, run, words)
    except SystemExit as stop:  # after --help or a wrong call
        return stop.code if isinstance(stop.code, int) else FAILED


def _parse(args: list[str]) -> DataCall:
    short, rest = divided(args, _SHORT)
    parser = command_parser("train", __doc__)
    add = parser.add_argument
    add("data", metavar="DATA", help="folder of the data set")
    add("--task", choices=TASKS, default="segment", help="what is trained")
    add("--weights", metavar="NAME", help="pretrained weights or a file (default: mobilenetv2)")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--epochs", type=positive_int, metavar="N", help="length of the training")
    length.add_argument(
        "--minutes", type=positive_float, metavar="M", help="length of the training, by the clock"
    )
    add("--output", metavar="DIR", help="run folder (default: runs/ and the name of DATA)")
    add("--classes", metavar="FILE", help="names of the classes, one a line from label 0")
    add("--ignore", type=integers, metavar="LABELS", help="labels of no class: 11, or 0,11")
    parser.usage = (
        "igcv3det train DATA --task segment [--weights NAME] [--epochs N | --minutes M] "
        "[--output DIR] [--classes FILE] [--ignore LABELS] [--KEY VALUE ...]"
    )
    options = parser.parse_args(short)
    own = ["--config", CONFIG, "--data.root", options.data, *_of_data(options)]
    return DataCall(options, check_call(COMMAND, PROGRAM, __doc__ or "", [*own, *rest]))


def _of_data(options: argparse.Namespace) -> list[str]:
    words = []
    if options.classes is not None:
        words += ["--data.classes", options.classes]
    if options.ignore is not None:
        words += ["--data.ignore", json.dumps(options.ignore)]
    return words


def _complete(call: DataCall) -> list[str]:
    """The long form of a call with the choices, which are printed."""
    from igcv3det.tasks.segment.train_data import training_call

    options, words = call
    complete = training_call(
        options.data,
        words[4:],
        weights=options.weights,
        epochs=options.epochs,
        minutes=options.minutes,
        output=options.output,
    )
    print("\n".join(complete.lines), flush=True)
    return complete.arguments
