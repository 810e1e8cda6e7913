"""Small COCO files and detectors that several tests need."""

import contextlib
import io
import json
import math

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from igcv3det.checkpoint import save_detector
from igcv3det.config import BackboneConfig, DetectorConfig
from igcv3det.detector import build_detector
from igcv3det.io.images import write_image
from igcv3det.structures import Categories

THREE = Categories((1, 3, 7), ("cat", "dog", "zebra"))


def coco(images, annotations, categories=THREE):
    """Annotations as (image id, category id, xywh) or whole dictionaries."""
    entries = []
    for index, annotation in enumerate(annotations):
        if not isinstance(annotation, dict):
            image_id, category_id, (x, y, w, h) = annotation
            annotation = {"image_id": image_id, "category_id": category_id, "bbox": [x, y, w, h]}
            annotation |= {"id": index + 1, "area": w * h, "iscrowd": 0}
        entries.append(annotation)
    return {
        "images": [{"id": i, "file_name": f"{i}.png", "width": 200, "height": 100} for i in images],
        "annotations": entries,
        "categories": [
            {"id": i, "name": n} for i, n in zip(categories.ids, categories.names, strict=True)
        ],
    }


def write_json(path, content):
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def random_scene(images=12, seed=0):
    """Ground truth with crowds, areas unlike the boxes' and absent classes, and tied detections."""
    random = np.random.default_rng(seed)
    annotations, results = [], []
    for image_id in range(100, 100 + images):
        for _ in range(random.integers(0, 6)):
            box = (random.uniform(0, 100, 4) + np.array([0, 0, 5, 5])).round(2).tolist()
            category_id = int(random.choice([1, 3]))
            share = random.uniform(0.1, 1)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": category_id,
                    "bbox": box,
                    "area": box[2] * box[3] * share,
                    "iscrowd": int(random.random() < 0.1),
                }
            )
            for _ in range(random.integers(0, 4)):
                moved = (np.array(box) + random.normal(0, 4, 4)).clip(1).tolist()
                seen_as = category_id if random.random() < 0.8 else 7
                score = float(random.choice([0.3, 0.5, 0.9]))
                results.append(
                    {
                        "image_id": image_id,
                        "category_id": seen_as,
                        "bbox": moved,
                        "score": score,
                    }
                )
    return coco(range(100, 100 + images), annotations), results


def save_tiny_detector(path, categories=THREE):
    config = DetectorConfig(
        num_classes=len(categories), image_size=64, backbone=BackboneConfig(width=0.25, depth=0.25)
    )
    save_detector(build_detector(config, categories), path)
    return path


def write_noise(path, height=100, width=200, seed=0):
    random = np.random.default_rng(seed)
    write_image(path, random.integers(0, 256, (height, width, 3), dtype=np.uint8))
    return path


def pycocotools_figures(annotation_file, results, image_ids=None, category_ids=None):
    """The twelve figures by pycocotools itself; NaN where it has nothing to count."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(annotation_file)
        evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
        evaluation.params.imgIds = image_ids or evaluation.params.imgIds
        evaluation.params.catIds = category_ids or evaluation.params.catIds
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [math.nan if figure == -1 else figure for figure in evaluation.stats]
