"""Exported files made by hand, without a network, so that their detections are known."""

import json

import onnx
import onnx.parser

from igcv3det.checkpoint import describe_detector
from igcv3det.config import BackboneConfig, DetectorConfig, HeadConfig, PreprocessConfig
from igcv3det.detector import build_detector
from igcv3det.runtime.export_spec import ExportSpec
from igcv3det.structures import Categories

SIZE = 32
CONFIG = DetectorConfig(
    num_classes=2,
    image_size=SIZE,
    backbone=BackboneConfig(name="mobilenetv2", width=0.1),
    head=HeadConfig(extra_channels=(8,)),
    preprocess=PreprocessConfig(mean=(0.0, 0.0, 0.0), std=(255.0, 255.0, 255.0)),
)
CATEGORIES = Categories((3, 8), ("cat", "dog"))
HEADER = '<ir_version: 10, opset_import: ["": 18]>'

# Three anchors: a dog in the upper left quarter whose score is the image's mean, a cat with half of
# that in the whole image, and the dog again, a little smaller, for NMS to remove.
CANDIDATES = f"""{HEADER}
    stub (float[batch, 3, {SIZE}, {SIZE}] images)
        => (float[batch, 3, 4] boxes, float[batch, 3, 2] scores)
    <
        float[1, 3, 4] known = {{0, 0, 16, 16, 0, 0, 32, 32, 0, 0, 16, 14}},
        float[1, 3, 2] shares = {{0, 1, 0.5, 0, 0, 0.75}},
        int64[1] last = {{3}}, int64[2] ends = {{3, 4}}, int64[3] axes = {{1, 2, 3}}
    >
    {{
        means = ReduceMean <keepdims = 0> (images, axes)
        column_axes = Constant <value_ints = [1, 2]> ()
        column = Unsqueeze (means, column_axes)
        scores = Mul (column, shares)
        nothing = Sub (column, column)
        boxes = Add (known, nothing)
    }}"""
# The same after NMS: the cat is second.
WITH_NMS = f"""{HEADER}
    stub (float[1, 3, {SIZE}, {SIZE}] images)
        => (float[detections, 4] boxes, float[detections] scores, int64[detections] labels)
    <
        float[2, 4] known = {{0, 0, 16, 16, 0, 0, 32, 32}}, float[2] shares = {{1, 0.5}},
        int64[2] classes = {{2, 1}}, int64[1] first_axis = {{0}}
    >
    {{
        mean = ReduceMean <keepdims = 0> (images)
        all_scores = Mul (mean, shares)
        present = NonZero (all_scores)
        rows = Squeeze (present, first_axis)
        scores = Gather (all_scores, rows)
        boxes = Gather (known, rows)
        labels = Gather (classes, rows)
    }}"""
# An image of any size; boxes in its pixels.
IMAGE = f"""{HEADER}
    stub (uint8[batch, height, width, 3] images)
        => (float[batch, 3, 4] boxes, float[batch, 3, 2] scores)
    <
        float[1, 3, 4] known = {{0, 0, 0.5, 0.5, 0, 0, 1, 1, 0, 0, 0.5, 0.4375}},
        float[1, 3, 2] shares = {{0, 1, 0.5, 0, 0, 0.75}},
        float white = {{255}}, int64[4] whwh = {{1, 0, 1, 0}}, int64[3] axes = {{1, 2, 3}}
    >
    {{
        values = Cast <to = 1> (images)
        means = ReduceMean <keepdims = 0> (values, axes)
        grey = Div (means, white)
        column_axes = Constant <value_ints = [1, 2]> ()
        column = Unsqueeze (grey, column_axes)
        scores = Mul (column, shares)
        nothing = Sub (column, column)
        sizes = Shape <start = 1, end = 3> (images)
        sides = Gather (sizes, whwh)
        in_pixels = Cast <to = 1> (sides)
        scaled = Mul (known, in_pixels)
        boxes = Add (scaled, nothing)
    }}"""
GRAPHS = {(False, False): CANDIDATES, (False, True): WITH_NMS, (True, False): IMAGE}


def describe(spec, **changes):
    detector = build_detector(CONFIG, CATEGORIES)
    return {**describe_detector(detector), "export": spec.as_description(CONFIG), **changes}


def write_stub(path, spec=None, description=None, graph=None):
    """An ``.onnx`` or ``.xml`` file of a spec; description None takes the right one."""
    spec = spec or ExportSpec()
    model = onnx.parser.parse_model(graph or GRAPHS[spec.preprocessing, spec.nms])
    text = json.dumps(describe(spec)) if description is None else description
    if path.suffix == ".xml":
        import openvino

        read = openvino.Core().read_model(model=model.SerializeToString())
        read.set_rt_info(text, ["igcv3det"])
        openvino.save_model(read, path, compress_to_fp16=False)
    else:
        onnx.helper.set_model_props(model, {"igcv3det": text})
        onnx.save(model, path)
    return path
