"""The converted ssdlite_mobilenet_v2_coco against TensorFlow's graph and detections.

Needs IGCV3DET_DATA, a folder with ``tf_ssdlite_mobilenet_v2_coco`` (the TensorFlow.js model and
``detections_val2017_subset.json``) and ``coco_subset`` (COCO's layout).

The published detections were computed from images decoded by the JavaScript package jpeg-js,
which differs from libjpeg by up to 4 of 255 levels. That alone changes a third of them by more than
0.01 of score or to an IoU below 0.99. So there are two comparisons of single detections: our
detector and the graph on the same pixels, and our detector and the published file on jpeg-js's
pixels (``npm install jpeg-js``, and NODE_PATH naming its node_modules; skipped
without).
"""

import json
import logging
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from tfjs_graph import (
    BOXES,
    LOGITS,
    OFFSETS,
    RESIZED,
    SCORES,
    detect,
    evaluate,
    resize_bilinear,
)

from igcv3det.datasets.coco_categories import COCO_CATEGORIES
from igcv3det.evaluation import CocoEvaluator
from igcv3det.io.images import read_image
from igcv3det.predictor import Predictor
from research.convert.ssdlite import convert_graph
from research.convert.tfjs import read_graph_model

logger = logging.getLogger(__name__)

pytestmark = pytest.mark.data

UNUSED_COLUMNS = np.array([12, 26, 29, 30, 45, 66, 68, 69, 71, 83]) - 1  # without the background


@pytest.fixture(scope="module")
def annotations(real_data):
    return real_data / "coco_subset" / "annotations" / "instances_val2017.json"


@pytest.fixture(scope="module")
def images(real_data, annotations):
    """Image id to path."""
    images = json.loads(annotations.read_text())["images"]
    return {
        image["id"]: real_data / "coco_subset" / "val2017" / image["file_name"] for image in images
    }


@pytest.fixture(scope="module")
def graph(real_data):
    return read_graph_model(real_data / "tf_ssdlite_mobilenet_v2_coco")


@pytest.fixture(scope="module")
def predictor(graph):
    return Predictor(convert_graph(graph))


@pytest.fixture(scope="module")
def published(real_data):
    path = real_data / "tf_ssdlite_mobilenet_v2_coco" / "detections_val2017_subset.json"
    found = defaultdict(list)
    for row in json.loads(path.read_text()):
        x, y, w, h = row["bbox"]
        found[row["image_id"]].append((row["category_id"], row["score"], [x, y, x + w, y + h]))
    return found


def _rows(detections):
    boxes, scores = detections.boxes.tolist(), detections.scores.tolist()
    return list(zip(detections.category_ids, scores, boxes, strict=True))


def _iou(a, b):
    a, b = np.array(a), np.array(b)
    overlap = np.prod(np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0))
    return overlap / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - overlap)


def _agreement(expected, found):
    """(matched, all) of the detections >= 0.3 that are expected: IoU >= 0.99, score within 0.01."""
    likely = [row for row in expected if row[1] >= 0.3]
    matched = sum(
        any(c == category and abs(s - score) <= 0.01 and _iou(b, box) >= 0.99 for c, s, b in found)
        for category, score, box in likely
    )
    return np.array([matched, len(likely)])


def _average_precision(annotations, detections):
    evaluator = CocoEvaluator(annotations, COCO_CATEGORIES)
    for image_id, found in detections.items():
        evaluator.update([image_id], [found])
    return evaluator.compute()["AP"]


def test_category_names_are_the_annotation_files(annotations):
    categories = json.loads(annotations.read_text())["categories"]
    named = {category["id"]: category["name"] for category in categories}
    assert named == dict(zip(COCO_CATEGORIES.ids, COCO_CATEGORIES.names, strict=True))


def test_outputs_of_the_graph_on_the_same_pixels(graph, predictor, images):
    worst, unused, agreed = 0.0, 0.0, np.zeros(2)
    for path in images.values():
        image = read_image(path)
        outputs = [OFFSETS, LOGITS, BOXES, SCORES]
        feeds = {RESIZED: resize_bilinear(image, 300)[None]}
        offsets, logits, boxes, scores = evaluate(graph, feeds, outputs)
        with torch.no_grad():
            ours = predictor.network(predictor.preprocess(image)[None])
        for mine, theirs in (
            (ours.logits, logits[..., [0, *COCO_CATEGORIES.ids]]),
            (ours.offsets, offsets[..., [1, 0, 3, 2]]),
        ):
            worst = max(worst, float(np.abs(mine.numpy() - theirs).max()))
        unused = max(unused, float(scores[..., UNUSED_COLUMNS].max()))
        agreed += _agreement(detect(boxes, scores, *image.shape[:2]), _rows(predictor(image)))
    logger.info("outputs within %.2g, detections %s, unused up to %.2g", worst, agreed, unused)
    assert worst < 1e-3
    assert unused < 0.01  # no detection of the original is lost with the columns left out
    assert agreed[0] >= 0.99 * agreed[1]


def test_average_precision_is_tensorflows(predictor, images, annotations, published, real_data):
    ours = _average_precision(annotations, {i: predictor(path) for i, path in images.items()})
    evaluator = CocoEvaluator(annotations)
    evaluator.update_results(
        real_data / "tf_ssdlite_mobilenet_v2_coco" / "detections_val2017_subset.json"
    )
    theirs = evaluator.compute()["AP"]
    logger.info("AP %.4f, TensorFlow.js %.4f", ours, theirs)
    assert ours == pytest.approx(theirs, abs=0.002)


def test_published_detections_on_the_pixels_of_jpeg_js(predictor, images, annotations, published):
    decoded = _decode_with_jpeg_js(list(images.values()))
    detections = {i: predictor(image) for i, image in zip(images, decoded, strict=True)}
    agreed = sum(_agreement(published[i], _rows(found)) for i, found in detections.items())
    average = _average_precision(annotations, detections)
    logger.info("%s of the published detections >= 0.3 agree; AP %.4f", agreed, average)
    assert agreed[1] == 950
    assert agreed[0] >= 0.99 * agreed[1]


def _decode_with_jpeg_js(paths):
    """One [H, W, 3] uint8 array after the other."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs node, to decode JPEG as for the published detections")
    if subprocess.run([node, "-e", "require('jpeg-js')"], capture_output=True).returncode:
        pytest.skip("node finds no jpeg-js: npm install jpeg-js, then set NODE_PATH")
    module_path = Path(__file__).with_name("decode_jpegs.cjs")
    command = [node, str(module_path), *map(str, paths)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        for _ in paths:
            width, height = np.frombuffer(process.stdout.read(8), "<i4")
            size = int(width) * int(height) * 3
            pixels = np.frombuffer(process.stdout.read(size), np.uint8)
            yield pixels.reshape(height, width, 3)
