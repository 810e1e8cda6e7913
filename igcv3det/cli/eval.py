r"""Evaluates a detector on a data set.

Examples:
    igcv3det eval --checkpoint best.ckpt --data data/mine --output metrics.json
    igcv3det eval --checkpoint best.ckpt --data data/mine --plots plots
    igcv3det eval --checkpoint best.ckpt --images data/coco/val2017 \
        --annotations data/coco/annotations/instances_val2017.json
    igcv3det eval --checkpoint segmenter.safetensors --data data/masks --output metrics.json

Prints COCO's twelve metrics and a table of the classes; "-" (null in JSON) where there are no
objects. Detections with a score above 0.01 count, at most 100 an image. Classes are matched
by name and id; detections of classes that the data set lacks are not written to --detections, and
classes that the detector lacks are not evaluated. --results evaluates a file in COCO's results
format without running a detector. Without a single object there are no figures; --detections is
written all the same.

--plots writes curves of precision, recall and F1, the best threshold of each class, a confusion
matrix, TIDE's types of errors and the images with the most errors, as PNG files, as plots.json and
as report.html.

With a segmenter, --data is a data set of images and masks, as for training; the figures are mIoU,
the IoU of each class and the pixel accuracy, at the size of each mask (docs/segmentation.md).

Exit status: 0 all done, 1 an image or the model could not be read or there are no figures, 2 wrong
call.
"""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path
from typing import TYPE_CHECKING

from igcv3det.cli.arguments import integers, mask_labels, positive_int
from igcv3det.cli.command import WRONG_CALL, command_parser, report, run_command
from igcv3det.cli.data_options import add_data_options, read_data, require_data
from igcv3det.cli.progress import counting
from igcv3det.cli.results import refuse_overwriting, write_json
from igcv3det.measure.tables import format_number, text_table

if TYPE_CHECKING:
    from igcv3det.evaluation import CocoEvaluator, CocoMetrics
    from igcv3det.predictor import Predictor

MEANINGS = {
    "AP": "precision, mean over IoU .50:.95",
    "AP50": "precision at IoU .50",
    "AP75": "precision at IoU .75",
    "APs": "AP of objects below 32x32 pixels",
    "APm": "AP of objects between these sizes",
    "APl": "AP of objects above 96x96 pixels",
    "AR1": "recall, mean over IoU .50:.95, 1 detection an image",
    "AR10": "recall, 10 detections an image",
    "AR100": "recall, 100 detections an image",
    "ARs": "AR100 of objects below 32x32 pixels",
    "ARm": "AR100 of objects between these sizes",
    "ARl": "AR100 of objects above 96x96 pixels",
}


def main(args: list[str] | None = None) -> int:
    """Returns the exit status."""
    return run_command("eval", _parse, _run, args)


def _parse(args: list[str]) -> argparse.Namespace:
    parser = command_parser("eval", __doc__)
    add = parser.add_argument
    add("--checkpoint", metavar="MODEL", help="detector (default: the pretrained mobilenetv2)")
    add_data_options(parser, "val")
    add("--allow-outside", action="store_true", help="allow file names outside the folder")
    add("--output", type=Path, metavar="JSON", help="write the metrics to this file")
    add("--detections", type=Path, metavar="JSON", help="write the detections as COCO results")
    add("--plots", type=Path, metavar="DIR", help="write figures and a report to this new folder")
    add("--categories", type=integers, metavar="IDS", help="only these category ids: 1,2,3")
    add("--limit", type=positive_int, metavar="N", help="only the first N images")
    colours = "segmenters: names and colours of the classes, for RGB masks"
    add("--classes", type=Path, metavar="FILE", help=colours)
    ignored = "segmenters: labels of no class, as 0,11"
    add("--ignore", type=mask_labels, metavar="LABELS", help=ignored)
    add("--results", type=Path, metavar="JSON", help="evaluate the detections of this file")
    add("--device", default="cpu", help="cpu (default), cuda, cuda:1, auto, ...")
    add("--batch-size", type=positive_int, default=8, metavar="N", help="batch size (default: 8)")
    add("--workers", type=positive_int, default=2, help="threads that read images (default: 2)")
    add(
        "--backend",
        choices=["pycocotools", "faster-coco-eval"],
        default="pycocotools",
        help="library that computes the metrics (default: pycocotools)",
    )
    options = parser.parse_args(args)
    if options.results and (options.limit or options.checkpoint or options.detections):
        parser.error("--results goes without --checkpoint, --detections and --limit")
    require_data(parser, options, need_images=not options.results)
    inputs = [options.annotations, options.results, options.checkpoint]
    refuse_overwriting(parser, options, inputs, ["output", "detections"])
    return options


def _run(options: argparse.Namespace) -> int:
    from igcv3det.tasks.segment.checkpoint import is_segmenter

    if is_segmenter(options.checkpoint):
        from igcv3det.cli.segment_eval import evaluate_segments

        return evaluate_segments(options)
    given = [f"--{name}" for name in ("classes", "ignore") if getattr(options, name) is not None]
    if given:
        report("eval", f"{', '.join(given)}: for segmenters")
        return WRONG_CALL
    return _evaluate(options)


def _evaluate(options: argparse.Namespace) -> int:
    # The library computes at the end; a missing one is reported before the detector runs
    importlib.import_module(options.backend.replace("-", "_"))
    if options.plots:
        _prepare_plots(options.plots)
    from igcv3det.evaluation import CocoEvaluator, metrics_as_json
    from igcv3det.pretrained import resolve_model

    if not options.results and not (file := resolve_model(options.checkpoint)).exists():
        raise FileNotFoundError(f"{file}: no such file")  # before the data set is read
    record, images = read_data(options)
    predictor = None if options.results else _load(options)
    evaluator = CocoEvaluator(
        record,
        predictor.categories if predictor else None,
        scored_ids=options.categories,
        backend=options.backend,
    )
    image_ids = evaluator.image_ids[: options.limit]
    if not options.detections:
        evaluator.require_objects(image_ids)  # before the detector runs
    failures: list[str] = []
    if predictor:
        failures = _detect(predictor, evaluator, image_ids, images, options)
    else:
        evaluator.update_results(options.results)
    if options.detections:
        evaluator.save_results(options.detections)
        print(f"Detections are in {options.detections}")
    evaluator.require_objects(evaluator.added_ids)
    metrics = evaluator.compute()
    _print_report(metrics, evaluator, failures, len(image_ids))
    if options.output:
        figures = metrics_as_json(metrics) | _extent(evaluator, failures)
        write_json(options.output, figures)
        print(f"Figures are in {options.output}")
    if options.plots:
        _write_plots(options, evaluator, metrics, images)
    return 1 if failures else 0


def _prepare_plots(folder: Path) -> None:
    """Reports what would prevent plots before the detector runs."""
    importlib.import_module("matplotlib")
    importlib.import_module("pycocotools")
    from igcv3det.plots.folder import require_new_folder

    require_new_folder(folder)


def _write_plots(
    options: argparse.Namespace, evaluator: CocoEvaluator, metrics: CocoMetrics, images: Path | None
) -> None:
    from igcv3det.datasets.image_files import ImageFolder
    from igcv3det.plots.folder import REPORT, write_plots

    analysis = evaluator.analyse()
    model = Path(options.results or options.checkpoint or "the pretrained detector").name
    data = (options.data or options.annotations).resolve().name
    split = f" ({options.split or options.default_split})" if options.data else ""
    folder = ImageFolder(images, options.allow_outside) if images else None
    write_plots(options.plots, analysis, metrics, f"{model} on {data}{split}", folder)
    if best := analysis.overall.best:
        print(
            f"Best score threshold {best.threshold:.3f}: precision {best.precision:.3f}, recall "
            f"{best.recall:.3f}, F1 {best.f1:.3f} (IoU 0.50)"
        )
    print(f"Plots are in {options.plots}: {options.plots / REPORT}")


def _load(options: argparse.Namespace) -> Predictor:
    from igcv3det.checkpoint import preview_notice
    from igcv3det.evaluation.dataset_inference import DETECTIONS_PER_IMAGE, SCORE_THRESHOLD
    from igcv3det.predictor import Predictor
    from igcv3det.pretrained import DEFAULT

    if options.images and not options.images.is_dir():
        raise FileNotFoundError(f"{options.images}: no such folder of images")
    if options.checkpoint is None and (notice := preview_notice(DEFAULT)):
        report("eval", notice)
    return Predictor.load(
        options.checkpoint,
        options.device,
        score_threshold=SCORE_THRESHOLD,
        detections_per_image=DETECTIONS_PER_IMAGE,
    )


def _detect(
    predictor: Predictor,
    evaluator: CocoEvaluator,
    image_ids: list[int],
    images: Path,
    options: argparse.Namespace,
) -> list[str]:
    from igcv3det.datasets.image_files import ImageFolder
    from igcv3det.evaluation.dataset_inference import require_images, score_images

    with counting("images", len(image_ids)) as progress:
        failures = score_images(
            predictor,
            evaluator,
            ImageFolder(images, options.allow_outside),
            image_ids,
            batch_size=options.batch_size,
            workers=options.workers,
            progress=progress,
        )
    for failure in failures:
        report("eval", failure)
    require_images(evaluator, failures, images)
    return failures


def _extent(evaluator: CocoEvaluator, failures: list[str]) -> dict[str, int | bool]:
    total = len(evaluator.ground_truth.images)
    return {
        "images": evaluator.image_count,
        "partial": bool(failures) or evaluator.image_count < total,
        "unreadable_images": len(failures),
        "unusable_entries": evaluator.left_out,
    }


def _print_report(
    metrics: CocoMetrics, evaluator: CocoEvaluator, failures: list[str], asked: int
) -> None:
    from igcv3det.evaluation import SUSPICIOUS_AP, metrics_as_json

    plain = metrics_as_json(metrics)
    for key, meaning in MEANINGS.items():
        print(f"{key:<6}{format_number(plain[key]):>6}   {meaning}")
    rows = [
        [
            name,
            str(entry["category_id"]),
            *(format_number(value) for value in (entry["AP"], entry["AP50"], entry["AR100"])),
            str(entry["ground_truths"]),
            str(entry["detections"]),
        ]
        for name, entry in metrics["per_class"].items()
    ]
    header = ["class", "id", "AP", "AP50", "AR100", "objects", "detections"]
    print("\n" + text_table(header, rows) + "\n")
    total = len(evaluator.ground_truth.images)
    if asked < total:
        print(f"PARTIAL: only the first {asked} of {total} images were evaluated")
    if failures:
        print(
            f"PARTIAL: {len(failures)} images are missing or could not be read; they are left out "
            "with their objects"
        )
    if evaluator.left_out:
        print(f"{evaluator.left_out} entries of the annotation file cannot be used, left out")
    if evaluator.unknown_class:
        print(f"{evaluator.unknown_class} detections of classes that the data set lacks, left out")
    if metrics["AP"] < SUSPICIOUS_AP:
        print(f"AP is below {SUSPICIOUS_AP}. Diagnosis:")
        for remark in evaluator.diagnose():
            print(f"  - {remark}")
