"""Detection in tiles: accuracy beside supervision's InferenceSlicer, cost for 4,000 x 3,000 px.

Examples:
    python -m research.tiling accuracy --checkpoint shapes.safetensors --json accuracy.json
    python -m research.tiling cost --checkpoint igcv3-d --json cost.json

``accuracy`` paints scenes of 2,000 x 1,500 px with synthetic shapes of 60 to 700 px and detects
them with a detector trained on shapes (igcv3det demo), in tiles of 300 px with 60 px overlap: the
image as a whole, supervision's slicer with each of its filters, and the package with and without
the detections in the whole image. AP is COCO's; precision and recall count detections from a score
of 0.3, matched at IoU 0.5. Needs supervision (pip install supervision).

``cost`` takes the processor time of one thread for an image in tiles and for each of its tiles
alone, in turn, and gives the median ratio: processor time, since other processes may run.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from igcv3det.cli.arguments import positive_int
from igcv3det.cli.command import command_parser, run_command
from igcv3det.cli.results import write_json
from igcv3det.datasets.coco import load_categories
from igcv3det.detection.iou import box_intersection, box_iou
from igcv3det.detection.tiles import merge_tiles, tile_windows
from igcv3det.evaluation import CocoEvaluator
from igcv3det.measure.machine import processor_name
from igcv3det.predictor import Predictor
from igcv3det.shapes.dataset import CATEGORIES
from igcv3det.shapes.outlines import outline, outline_box
from igcv3det.shapes.painting import paint_scene
from igcv3det.structures import Detections
from research.record_table import record_table

Image = np.ndarray[Any, np.dtype[np.uint8]]
HEIGHT, WIDTH, TILE, OVERLAP_PX = 1500, 2000, 300, 60
MIN_SIDE, MAX_SIDE, OBJECTS = 60.0, 700.0, 60
MAX_COVERED = 0.2  # of the smaller of two objects
COST_HEIGHT, COST_WIDTH, COST_TILE = 3000, 4000, 640
LEAST_SCORE, SCORE = 0.01, 0.3


def main(args: list[str] | None = None) -> int:
    """Returns the exit status."""
    return run_command("tiling", _parse, _run, args)


def _parse(args: list[str]) -> argparse.Namespace:
    parser = command_parser("research.tiling", __doc__, program="python -m")
    parser.add_argument("what", choices=("accuracy", "cost"))
    parser.add_argument("--checkpoint", required=True, metavar="MODEL")
    parser.add_argument("--scenes", type=positive_int, default=12)
    parser.add_argument("--rounds", type=positive_int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, metavar="FILE")
    return parser.parse_args(args)


def _run(options: argparse.Namespace) -> int:
    rows = _accuracy(options) if options.what == "accuracy" else _cost(options)
    print(f"{processor_name()}, {torch.get_num_threads()} threads, seed {options.seed}")
    print(record_table(rows))
    if options.json:
        write_json(options.json, rows)
    return 0


def scene(seed: int, height: int, width: int) -> tuple[Image, list[tuple[int, list[float]]]]:
    """A large image of shapes, and (category id, xyxy) of its objects."""
    rng = np.random.default_rng(seed)
    contours, objects = [], []
    boxes = np.zeros((0, 4))
    for _ in range(40 * OBJECTS):
        category_id = int(rng.choice(list(CATEGORIES)))
        side = MIN_SIDE * (MAX_SIDE / MIN_SIDE) ** rng.random()
        place = tuple(rng.uniform(0.03, 0.97, 2) * (width, height))
        shape = outline(CATEGORIES[category_id], place, side, rng.uniform(-np.pi / 6, np.pi / 6))
        box = np.array([outline_box(shape, height, width)])
        smaller = np.minimum(_areas(boxes), _areas(box))
        if (box_intersection(boxes, box)[:, 0] <= MAX_COVERED * smaller).all():
            boxes = np.concatenate([boxes, box])
            contours.append(shape)
            objects.append((category_id, box[0].tolist()))
        if len(objects) == OBJECTS:
            break
    return paint_scene(rng, height, width, contours), objects


def _areas(boxes: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.asarray((boxes[:, 2:] - boxes[:, :2]).prod(axis=1))


Detect = Callable[[Image], Detections]


def _methods(predictor: Predictor, tiled: Predictor) -> dict[str, Detect]:
    def ours_without_whole(image: Image) -> Detections:
        size = image.shape[:2]
        windows = tile_windows(*size, TILE, OVERLAP_PX / TILE)
        found = [predictor(image[t:b, x:r]) for x, t, r, b in windows]
        return merge_tiles(found, windows, size, predictor.config.postprocess.iou_threshold)

    methods: dict[str, Detect] = {"whole image": predictor, "tiles and whole image": tiled}
    methods["tiles"] = ours_without_whole
    import supervision as sv

    for kind in set(sv.OverlapFilter) - {sv.OverlapFilter.NONE}:
        for metric in (sv.OverlapMetric.IOU, sv.OverlapMetric.IOS):
            slicer = sv.InferenceSlicer(
                lambda tile: predictor(tile).to_supervision(),
                slice_wh=TILE,
                overlap_wh=OVERLAP_PX,
                overlap_filter=kind,
                overlap_metric=metric,
                iou_threshold=predictor.config.postprocess.iou_threshold,
            )
            name = f"supervision, {kind.value}, {metric.value}"
            methods[name] = _from_supervision(slicer, predictor)
    return methods


def _from_supervision(slicer: Callable[[Image], Any], predictor: Predictor) -> Detect:
    def detect(image: Image) -> Detections:
        found = slicer(image)
        order = np.argsort(-found.confidence, kind="stable")
        return Detections(
            torch.from_numpy(found.xyxy[order]).float(),
            torch.from_numpy(found.confidence[order]).float(),
            torch.from_numpy(found.class_id[order] + 1),
            predictor.categories,
        )

    return detect


def _accuracy(options: argparse.Namespace) -> list[dict[str, Any]]:
    predictor = Predictor.load(options.checkpoint, score_threshold=LEAST_SCORE)
    tiled = Predictor.load(options.checkpoint, score_threshold=LEAST_SCORE, tile=TILE)
    scenes = [scene(options.seed + n, HEIGHT, WIDTH) for n in range(options.scenes)]
    with tempfile.TemporaryDirectory() as folder:
        annotations = Path(folder) / "scenes.json"
        annotations.write_text(json.dumps(_coco([objects for _, objects in scenes])))
        load_categories(annotations)
        return [
            {"method": name, **_figures(detect, scenes, annotations, predictor)}
            for name, detect in _methods(predictor, tiled).items()
        ]


def _figures(
    detect: Detect, scenes: Sequence[Any], annotations: Path, predictor: Predictor
) -> dict[str, float]:
    evaluator = CocoEvaluator(annotations, predictor.categories)
    found = [detect(image) for image, _ in scenes]
    evaluator.update(list(range(1, len(scenes) + 1)), found)
    metrics = evaluator.compute()
    counts = [
        _matches(one.above(SCORE), objects) for one, (_, objects) in zip(found, scenes, strict=True)
    ]
    right, detected, present = (sum(column) for column in zip(*counts, strict=True))
    return {
        "AP": metrics["AP"],
        "AP50": metrics["AP50"],
        "precision": right / max(detected, 1),
        "recall": right / present,
    }


def _matches(found: Detections, objects: list[tuple[int, list[float]]]) -> tuple[int, int, int]:
    """Objects found, detections, objects."""
    truth = torch.tensor([box for _, box in objects])
    ids = torch.tensor([category_id for category_id, _ in objects])
    free = torch.ones(len(objects), dtype=torch.bool)
    right = 0
    for box, category_id in zip(found.boxes, found.category_ids, strict=True):
        iou = box_iou(box[None], truth)[0] * free * (ids == category_id)
        if iou.max() >= 0.5:
            free[iou.argmax()] = False
            right += 1
    return right, len(found), len(objects)


def _coco(scenes: list[list[tuple[int, list[float]]]]) -> dict[str, Any]:
    annotations = [
        {
            "image_id": number,
            "category_id": category_id,
            "bbox": [x0, y0, x1 - x0, y1 - y0],
            "area": (x1 - x0) * (y1 - y0),
            "iscrowd": 0,
        }
        for number, objects in enumerate(scenes, 1)
        for category_id, (x0, y0, x1, y1) in objects
    ]
    return {
        "images": [
            {"id": n, "file_name": f"{n}.png", "height": HEIGHT, "width": WIDTH}
            for n in range(1, len(scenes) + 1)
        ],
        "annotations": [{"id": n, **one} for n, one in enumerate(annotations, 1)],
        "categories": [{"id": key, "name": name} for key, name in CATEGORIES.items()],
    }


def _cost(options: argparse.Namespace) -> list[dict[str, Any]]:
    torch.set_num_threads(1)  # waiting threads would count as processor time
    image, _ = scene(options.seed, COST_HEIGHT, COST_WIDTH)
    windows = tile_windows(COST_HEIGHT, COST_WIDTH, COST_TILE)
    crops = [image[top:bottom, left:right] for left, top, right, bottom in windows]
    rows = []
    for threshold in (SCORE, LEAST_SCORE):
        alone = Predictor.load(options.checkpoint, score_threshold=threshold)
        tiled = Predictor.load(options.checkpoint, score_threshold=threshold, tile=COST_TILE)
        for crop in crops[:3]:
            alone(crop)
        times = []
        for _ in range(options.rounds):
            start = time.process_time()
            single = [len(alone(crop)) for crop in crops]
            middle = time.process_time()
            count = len(tiled(image))
            times.append((middle - start, time.process_time() - middle))
        ratios = [tiles / total for total, tiles in times]
        rows.append(
            {
                "threshold": threshold,
                "tiles": len(windows),
                "detections in tiles": sum(single),
                "merged": count,
                "sum of tiles, CPU s": statistics.median(total for total, _ in times),
                "in tiles, CPU s": statistics.median(tiles for _, tiles in times),
                "ratio": statistics.median(ratios),
                "least": min(ratios),
                "most": max(ratios),
            }
        )
    return rows


if __name__ == "__main__":
    raise SystemExit(main())
