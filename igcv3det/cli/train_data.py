"""Fine-tunes a pretrained detector on a data set: ``igcv3det train DATA``.

Examples:
    igcv3det train data/mine
    igcv3det train data/mine --minutes 10 --output runs/mine
    igcv3det train data/mine --weights igcv3-d --epochs 20 --data.batch_size 8
    igcv3det train data/mine --epochs 20 --tune 20 --output runs/mine

DATA is a folder or a file of COCO JSON, YOLO, Pascal VOC, LabelMe, CVAT or CSV. Weights, image
size, batch, learning rate, anchors, length and early stopping are chosen by the data and the
machine, and each choice is printed with its reason. Every key of ``igcv3det train --help`` is an
option here too, and has precedence; ``--config FILE`` adds a configuration file, whose data,
weights, length and folder count less than DATA and the options above.

--tune N first searches learning rate, weight decay, warm-up and crop strength with N short
trainings and trains with the best values (pip install 'igcv3det[tune]'). The same call resumes
a search that was interrupted. --storage URL shares it between machines: the same call on each.

The run folder (--output, else ``runs/`` and the name of DATA) receives ``config.yaml``,
``metrics.csv``, ``checkpoints/``, ``images/`` and ``plots/``.

Exit status: 0 trained, 1 could not be done, 2 wrong call, 130 and 143 ended by Ctrl-C and SIGTERM.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Collection
from typing import NamedTuple

from igcv3det.cli.arguments import positive_float, positive_int
from igcv3det.cli.command import DEBUG, command_parser
from igcv3det.cli.data_options import add_format
from igcv3det.cli.training_call import check_call

CONFIG = "finetune"
_OWN = (
    *("--weights", "--epochs", "--minutes", "--output", "--tune", "--storage", "--format"),
    *("-h", "--help", DEBUG),
)
_OF_BASE = 4  # words: --config FILE --data.root DATA
_WITHOUT_VALUE = ("-h", "--help", DEBUG, "--print_config")


class DataCall(NamedTuple):
    """A call of the short form.

    Attributes:
        options: of the short form.
        words: the call in the long form, without the choices.
    """

    options: argparse.Namespace
    words: list[str]


def is_data_call(args: list[str]) -> bool:
    """Whether a call of ``train`` is one of the short form: it has a DATA or an option of it."""
    own, _ = divided(args, _OWN)
    return any(word not in _WITHOUT_VALUE for word in own)


def parse_data_call(source: tuple[str, str], args: list[str]) -> DataCall:
    """Parses a call of the short form.

    Args:
        source: module and name of the command line class.
        args: as the user gave them, DATA among them.

    Raises:
        SystemExit: status 0 after ``--help``, 1 for a configuration that does not exist, 2 for a
            wrong call.
    """
    own, rest = divided(args, _OWN)
    parser = command_parser("train", __doc__)
    add = parser.add_argument
    add("data", metavar="DATA", help="data set: its folder or file, in any format")
    add("--weights", metavar="NAME", help="pretrained weights or a file (default: mobilenetv2)")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--epochs", type=positive_int, metavar="N", help="length of the training")
    length.add_argument(
        "--minutes", type=positive_float, metavar="M", help="length of the training, by the clock"
    )
    add("--output", metavar="DIR", help="run folder (default: runs/ and the name of DATA)")
    add_format(parser)
    add("--tune", type=positive_int, metavar="N", help="short trainings that search options")
    add("--storage", metavar="URL", help="Optuna's, of a search that several machines share")
    parser.usage = (
        "igcv3det train DATA [--weights NAME] [--epochs N | --minutes M] [--output DIR] "
        "[--format NAME] [--tune N [--storage URL]] [--KEY VALUE ...]"
    )
    options = parser.parse_args(own)
    if options.storage and not options.tune:
        parser.error("--storage goes with --tune")
    base = ["--config", CONFIG, "--data.root", options.data]
    if options.format:
        rest += ["--data.format", options.format]
    return DataCall(options, check_call("train", source, __doc__ or "", [*base, *rest]))


def complete_call(call: DataCall) -> list[str] | None:
    """The long form of a call with the choices, which are printed; with --tune, after the search.

    Returns:
        None where nothing is left to train: on a machine that only helps in a search.

    Raises:
        ValueError, OSError: the data set or the weights cannot be used.
    """
    from igcv3det.tasks.detect.train_data import training_call, tuned_call

    options, words = call
    chosen = {key: getattr(options, key) for key in ("weights", "epochs", "minutes", "output")}
    if options.tune and "--print_config" not in words:
        logging.basicConfig(level=logging.INFO, format="%(message)s")
        tune = {"trials": options.tune, "storage": options.storage, "say": _say}
        return tuned_call(options.data, words[_OF_BASE:], **tune, **chosen)
    complete = training_call(options.data, words[_OF_BASE:], **chosen)
    _say("\n".join(complete.lines))
    return complete.arguments


def _say(line: str) -> None:
    print(line, flush=True)


def divided(args: list[str], short: Collection[str]) -> tuple[list[str], list[str]]:
    """Divides a call into the short form's words and the long form's.

    Args:
        args: of the call.
        short: options of the short form.

    Returns:
        The short form's options and values, DATA among them, and the long form's.
    """
    own: list[str] = []
    rest: list[str] = []
    words = iter(args)
    for word in words:
        name, equals, _ = word.partition("=")
        place = rest if word.startswith("-") and name not in short else own
        place.append(word)
        if word.startswith("-") and not equals and name not in _WITHOUT_VALUE:
            place.extend([value for value in [next(words, None)] if value is not None])
    return own, rest
