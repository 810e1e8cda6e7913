r"""Evaluates a classifier on labelled images.

Example:
    igcv3det eval-cls --checkpoint runs/cifar10/checkpoints/best.safetensors \
        --data cifar10.zip --output metrics.json

MODEL is a .safetensors or .ckpt file, or a configuration such as cls/cifar10.yaml (random
weights). PATH is a data set as for training: a folder with ``val`` or ``test`` of class folders, a
zip file of one, or the folder that torchvision keeps CIFAR in. Prints top-1 and top-5 accuracy and
the top-1 accuracy of each class. --output also writes them to a JSON file, and the confusion matrix
to a .png file of the same name.

Exit status: 0 done, 1 the model or an image could not be read, 2 wrong call.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from igcv3det.cli.arguments import positive_int
from igcv3det.cli.command import command_parser, run_command
from igcv3det.cli.progress import counting
from igcv3det.cli.results import refuse_overwriting, write_json
from igcv3det.measure.tables import format_number, text_table

if TYPE_CHECKING:
    from igcv3det.tasks.classify.checkpoint import Classifier
    from igcv3det.tasks.classify.evaluation import Evaluation


def main(args: list[str] | None = None) -> int:
    """Returns the exit status."""
    return run_command("eval-cls", _parse, _run, args)


def _parse(args: list[str]) -> argparse.Namespace:
    parser = command_parser("eval-cls", __doc__)
    add = parser.add_argument
    add("--checkpoint", required=True, metavar="MODEL", help="classifier to evaluate")
    add("--data", required=True, metavar="PATH", help="data set, as for training")
    add("--split", metavar="NAME", help="split to evaluate on (default: val, else test)")
    add(
        "--output",
        type=Path,
        metavar="JSON",
        help="write the metrics to this file",
    )
    add("--limit", type=positive_int, metavar="N", help="evaluate on N images, at equal intervals")
    add("--cache", metavar="DIR", help="folder for decoded images (default: data/cache)")
    add("--device", default="cpu", help="cpu (default), cuda, cuda:1, auto, ...")
    add(
        "--batch-size",
        type=positive_int,
        default=100,
        metavar="N",
        help="default: 100",
    )
    add("--workers", type=int, default=2, help="processes that decode images (default: 2)")
    options = parser.parse_args(args)
    if options.output and options.output.suffix == ".png":
        parser.error("--output must not end in .png: that is the file of the confusion matrix")
    refuse_overwriting(parser, options, [options.checkpoint, options.data], ["output"])
    return options


def _run(options: argparse.Namespace) -> int:
    evaluation = _evaluate(options)
    _print_report(evaluation)
    if options.output:
        _write(evaluation, options.output)
    return 0


def _evaluate(options: argparse.Namespace) -> Evaluation:
    from igcv3det.tasks.classify.checkpoint import load_classifier
    from igcv3det.tasks.classify.datamodule import CACHE, ClassificationDataModule
    from igcv3det.tasks.classify.evaluation import evaluate

    classifier = load_classifier(options.checkpoint)
    data = ClassificationDataModule(
        options.data,
        val_split=options.split,
        cache=options.cache or CACHE,
        batch_size=options.batch_size,
        num_workers=options.workers,
        image_size=classifier.config.image_size,
        val_limit=options.limit,
    )
    _require_same_names(classifier, data.names, options.data)
    classifier = classifier._replace(names=data.names)
    loader = data.val_dataloader()
    with counting("images", loader.batches.length) as progress:
        return evaluate(classifier, loader, options.device, progress=progress)


def _require_same_names(classifier: Classifier, names: tuple[str, ...], data: str) -> None:
    from igcv3det.tasks.classify.checkpoint import numbered_names

    untrained = numbered_names(classifier.config.num_classes)
    if classifier.names == names:
        return
    if len(classifier.names) == len(names) and classifier.names == untrained:
        return  # random weights have no class names
    raise ValueError(
        f"{data}: has {len(names)} classes {list(names[:5])}, the classifier "
        f"{len(classifier.names)} {list(classifier.names[:5])}"
    )


def _print_report(evaluation: Evaluation) -> None:
    rows = [
        [name, str(int(total)), format_number(share)]
        for (name, share), total in zip(
            evaluation.per_class.items(), evaluation.confusion.sum(1).tolist(), strict=True
        )
    ]
    print(text_table(["class", "images", "top-1"], rows))
    print(f"\ntop-1 {evaluation.top1:.4f}   top-5 {evaluation.top5:.4f}", end="   ")
    print(f"{evaluation.images} images")


def _write(evaluation: Evaluation, output: Path) -> None:
    from igcv3det.tasks.classify.confusion_plot import draw_confusion

    write_json(output, evaluation.as_json())
    image = output.with_suffix(".png")
    draw_confusion(evaluation, image)
    print(f"metrics: {output}, confusion matrix: {image}")
