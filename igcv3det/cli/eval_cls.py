r"""Scores a classifier on labelled images.

Usage:
    python tools/eval_cls.py --checkpoint MODEL --data PATH [--output metrics.json]
                             [--split NAME] [--limit N]

Example:
    python tools/eval_cls.py --checkpoint runs/igcv3_cifar10/checkpoints/best.safetensors \
        --data cifar10.zip --output metrics.json

MODEL is a .safetensors or .ckpt file, or a configuration of configs/cls (random weights). PATH is
what training takes: a folder with ``val`` or ``test`` of class folders, a zip file of one, or the
folder that torchvision keeps CIFAR in. Prints top-1, top-5 and each class; with --output the
figures go to that file and the confusion matrix to an image beside it.

Exit status: 0 all done, 1 the model or an image could not be read, 2 wrong call.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from igcv3det.cli.argument_types import count
from igcv3det.measure.tables import figure, text_table
from igcv3det.tasks.classify.checkpoint import Classifier, load_classifier, numbered_names
from igcv3det.tasks.classify.confusion_plot import draw_confusion
from igcv3det.tasks.classify.datamodule import CACHE, ClassificationDataModule
from igcv3det.tasks.classify.evaluation import Evaluation, evaluate


def main(args: list[str] | None = None) -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", required=True, metavar="MODEL")
    parser.add_argument("--data", required=True, metavar="PATH")
    parser.add_argument("--split", metavar="NAME", help='default: "val", else "test"')
    parser.add_argument("--output", type=Path, metavar="JSON", help="for figures and image")
    parser.add_argument("--limit", type=count, metavar="N", help="only N images, in even steps")
    parser.add_argument("--cache", default=CACHE, metavar="DIR", help="for decoded images")
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda, cuda:1, ...")
    parser.add_argument("--batch-size", type=count, default=100)
    parser.add_argument("--workers", type=int, default=2, help="processes that decode")
    options = parser.parse_args(args)
    try:
        evaluation = _evaluate(options)
        _print_report(evaluation)
        if options.output:
            _write(evaluation, options.output)
    except (OSError, ValueError) as error:
        print(f"eval_cls: {str(error).strip().splitlines()[-1]}", file=sys.stderr)
        return 1
    return 0


def _evaluate(options: argparse.Namespace) -> Evaluation:
    classifier = load_classifier(options.checkpoint)
    data = ClassificationDataModule(
        options.data,
        val_split=options.split,
        cache=options.cache,
        batch_size=options.batch_size,
        num_workers=options.workers,
        image_size=classifier.config.image_size,
        val_limit=options.limit,
    )
    _require_same_names(classifier, data.names, options.data)
    classifier = classifier._replace(names=data.names)
    shown = sys.stderr.isatty()

    def progress(done: int) -> None:
        if shown:
            print(f"\r{done} images", end="", file=sys.stderr, flush=True)

    evaluation = evaluate(classifier, data.val_dataloader(), options.device, progress=progress)
    if shown:
        print(file=sys.stderr)
    return evaluation


def _require_same_names(classifier: Classifier, names: tuple[str, ...], data: str) -> None:
    untrained = numbered_names(classifier.config.num_classes)
    if classifier.names == names:
        return
    if len(classifier.names) == len(names) and classifier.names == untrained:
        return  # random weights know no names
    raise ValueError(
        f"{data}: its {len(names)} classes {list(names[:5])} are not the classifier's "
        f"{len(classifier.names)} {list(classifier.names[:5])}"
    )


def _print_report(evaluation: Evaluation) -> None:
    rows = [
        [name, str(int(total)), figure(share)]
        for (name, share), total in zip(
            evaluation.per_class.items(), evaluation.confusion.sum(1).tolist(), strict=True
        )
    ]
    print(text_table(["class", "images", "top-1"], rows))
    print(f"\ntop-1 {evaluation.top1:.4f}   top-5 {evaluation.top5:.4f}", end="   ")
    print(f"{evaluation.images} images")


def _write(evaluation: Evaluation, output: Path) -> None:
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(evaluation.as_json(), indent=1), encoding="utf-8")
    image = output.with_suffix(".png")
    draw_confusion(evaluation, image)
    print(f"Figures are in {output}, the confusion matrix in {image}")
