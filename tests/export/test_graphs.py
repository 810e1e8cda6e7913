"""The hand-written subgraphs against the code that they repeat."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from igcv3det.config import PostprocessConfig, PreprocessConfig
from igcv3det.detection.postprocess import select_detections
from igcv3det.preprocess import Preprocess

for _package in ("onnx", "onnxruntime", "openvino"):
    pytest.importorskip(_package, reason="needs the extra igcv3det[export]")

import onnx  # noqa: E402
import onnxruntime  # noqa: E402
import openvino  # noqa: E402

from igcv3det.export.graphs import (  # noqa: E402
    nms_graph,
    preprocessing_graph,
    rescaling_graph,
)


def run_onnx(model, inputs):
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(None, inputs)


def run_openvino(model, inputs):
    read = openvino.Core().read_model(model=model.SerializeToString())
    hint = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(read, "CPU", hint)
    outputs = compiled(inputs)
    return [np.array(outputs[index]) for index in range(len(read.outputs))]


RUN = pytest.mark.parametrize("run", [run_onnx, run_openvino])


@RUN
@pytest.mark.parametrize("size", [(1, 1), (1, 90), (48, 48), (50, 37), (200, 131)], ids=str)
@pytest.mark.parametrize("resize", ["bilinear", "tensorflow"])
def test_preprocessing(run, size, resize):
    config = PreprocessConfig((100.0, 110.0, 120.0), (50.0, 60.0, 70.0), resize)
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    ours = Preprocess(config, 48)(image)
    found, sides = run(preprocessing_graph(config, 48, None), {"images": image[None]})
    assert_close(sides, np.array([size[1], size[0]] * 2, dtype=np.float32) / 48)
    levels = (torch.from_numpy(found[0]) - ours).abs() * torch.tensor(config.std)[:, None, None]
    # OpenCV rounds its weights, so a value near a half may round the other way
    assert levels.max() < (1.01 if resize == "bilinear" else 0.01)


@RUN
def test_preprocessing_a_batch(run):
    images = np.random.default_rng(0).integers(0, 256, (3, 20, 30, 3), dtype=np.uint8)
    graph = preprocessing_graph(PreprocessConfig(resize="tensorflow"), 16, None)
    found, _ = run(graph, {"images": images})
    one, _ = run(graph, {"images": images[2:]})
    assert_close(found[2:], one)


@RUN
def test_rescaling(run):
    boxes = np.array([[[1, 2, 3, 4]], [[0, 0, 8, 8]]], dtype=np.float32)
    sides = np.array([2, 0.5, 2, 0.5], dtype=np.float32)
    (found,) = run(rescaling_graph(1, None), {"boxes": boxes, "sides": sides})
    assert_close(found, np.array([[[2, 1, 6, 2]], [[0, 0, 16, 4]]], dtype=np.float32))


def crowd(anchors, classes, seed=0):
    """Boxes that overlap a lot, some without area, and scores of which no two are equal."""
    random = np.random.default_rng(seed)
    corners = random.uniform(0, 60, (1, anchors, 2))
    boxes = np.concatenate([corners, corners + random.uniform(10, 40, (1, anchors, 2))], axis=2)
    boxes = np.clip(boxes, 0, 64)
    boxes[0, ::7, 2] = boxes[0, ::7, 0]
    ranks = random.permutation(anchors * classes) / (anchors * classes)
    return boxes.astype(np.float32), ranks.reshape(1, anchors, classes).astype(np.float32)


CONFIGS = {
    "own": PostprocessConfig(),
    "few candidates": PostprocessConfig(candidates_per_class=8),
    "few detections": PostprocessConfig(detections_per_image=5),
    "strict": PostprocessConfig(score_threshold=0.7, iou_threshold=0.3),
    "tolerant": PostprocessConfig(score_threshold=0.0, iou_threshold=0.95),
    "none": PostprocessConfig(score_threshold=0.9999),
}


@RUN
@pytest.mark.parametrize("name", CONFIGS)
def test_nms(run, name):
    config = CONFIGS[name]
    boxes, scores = crowd(60, 3)
    found = run(nms_graph(config, 60, 3), {"boxes": boxes, "scores": scores})
    ours = select_detections(
        torch.from_numpy(boxes[0]), torch.from_numpy(scores[0]), (64, 64), 64, config
    )
    assert (len(ours) == 0) == (name == "none")
    assert_close(torch.from_numpy(found[2]), ours.labels)
    assert_close(torch.from_numpy(found[1]), ours.scores)
    assert_close(torch.from_numpy(found[0]), ours.boxes)


@RUN
def test_nms_of_nan(run):
    boxes, scores = crowd(20, 2)
    graph = nms_graph(PostprocessConfig(), 20, 2)
    found = run(graph, {"boxes": boxes * np.nan, "scores": scores * np.nan})
    assert [len(part) for part in found] == [0, 0, 0]


@RUN
def test_nms_of_one_class(run):
    boxes = np.array([[[0, 0, 9, 9], [20, 20, 30, 30]]], dtype=np.float32)
    scores = np.array([[[0.25], [0.75]]], dtype=np.float32)
    found = run(nms_graph(PostprocessConfig(), 2, 1), {"boxes": boxes, "scores": scores})
    assert found[2].tolist() == [1, 1]
    assert found[1].tolist() == [0.75, 0.25]
    assert found[0].tolist() == [[20, 20, 30, 30], [0, 0, 9, 9]]
