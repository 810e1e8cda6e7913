"""Time of COCO's figures by pycocotools and by faster-coco-eval, on random detections.

Example:
    python -m research.evaluation_speed --images 5000

The images have 7.3 objects on average, of 80 classes whose frequencies fall as 1/rank. Most of the
objects have a detection, some of a wrong class; other detections are on nothing. Prints the time of
both libraries from detections to figures, and the largest difference of a figure.
Exit status: 0 the figures are equal, 1 they are not.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np

from igcv3det.cli.arguments import positive_int
from igcv3det.cli.command import command_parser, run_command
from igcv3det.datasets.builder import RawAnnotation, RecordBuilder
from igcv3det.datasets.record import AnnotationRecord
from igcv3det.evaluation import CocoEvaluator
from igcv3det.evaluation.coco_scoring import SUMMARY_NAMES, Backend
from igcv3det.measure.tables import text_table
from igcv3det.structures import Categories

CLASSES, OBJECTS, WIDTH, HEIGHT = 80, 7.3, 640, 480
FOUND, RIGHT_CLASS = 0.8, 0.85  # shares of the objects, of the detections on them
EQUAL = 1e-9
Result = dict[str, Any]


def make_data(images: int, seed: int = 0) -> tuple[AnnotationRecord, list[Result]]:
    """Random objects, and detections in COCO's results format.

    Args:
        images: how many.
        seed: of all numbers.
    """
    generator = np.random.default_rng(seed)
    share = 1 / np.arange(1, CLASSES + 1)
    names = [f"class {number}" for number in range(1, CLASSES + 1)]
    builder = RecordBuilder(Path("random"), Categories.of_names(names))
    results: list[Result] = []
    for image in range(1, images + 1):
        builder.add_image(image, f"{image}.jpg", WIDTH, HEIGHT)
        objects, others = generator.poisson(OBJECTS), int(generator.integers(5, 40))
        labels = 1 + generator.choice(CLASSES, objects + others, p=share / share.sum())
        for index, box in enumerate(_boxes(generator, objects + others)):
            label, score = int(labels[index]), generator.beta(1, 6)
            if index < objects:
                builder.add_annotation(RawAnnotation(image, label, box))
                if generator.random() > FOUND:
                    continue
                shift = generator.normal(0, 0.08, 4) * np.tile(box[2:], 2)
                box, score = (np.array(box) + shift).clip(0.5).tolist(), generator.beta(4, 2)
                if generator.random() > RIGHT_CLASS:
                    label = int(generator.integers(1, CLASSES + 1))
            results.append(
                {"image_id": image, "category_id": label, "bbox": box, "score": float(score)}
            )
    return builder.build(), results


def main(args: list[str] | None = None) -> int:
    """Prints a table; returns the exit status."""
    return run_command("evaluation_speed", _parse, _run, args)


def _parse(args: list[str]) -> argparse.Namespace:
    parser = command_parser("research.evaluation_speed", __doc__, program="python -m")
    parser.add_argument("--images", type=positive_int, default=5000, help="default: 5000")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    return parser.parse_args(args)


def _run(options: argparse.Namespace) -> int:
    record, results = make_data(options.images, options.seed)
    rows, figures = [], []
    for backend in get_args(Backend):
        evaluator = CocoEvaluator(record, backend=backend)
        evaluator.update_results(results)
        start, worked = time.perf_counter(), time.process_time()
        metrics = evaluator.compute()
        times = time.perf_counter() - start, time.process_time() - worked
        rows.append([backend, *(f"{seconds:.2f}" for seconds in times), f"{metrics['AP']:.4f}"])
        figures.append([metrics[name] for name in SUMMARY_NAMES])
    print(f"{len(record.images)} images, {len(record)} objects, {len(results)} detections")
    print(text_table(["library", "elapsed, s", "processor, s", "AP"], rows))
    difference = float(np.abs(np.subtract(*figures)).max())
    print(f"largest difference of the {len(SUMMARY_NAMES)} figures: {difference:.2g}")
    return 0 if difference <= EQUAL else 1


def _boxes(generator: np.random.Generator, count: int) -> Iterator[list[float]]:
    """x, y, width, height within the image; sides from 10 to 400 px, logarithmic."""
    for _ in range(count):
        sides = np.exp(generator.uniform(np.log(10), np.log(400), 2))
        corner = generator.uniform(0, [WIDTH, HEIGHT] - sides)
        yield [*corner.tolist(), *sides.tolist()]


if __name__ == "__main__":
    raise SystemExit(main())
