"""Converts TensorFlow's ssdlite_mobilenet_v2_coco to a detector of this package.

This is the model of the TensorFlow Object Detection API (model zoo, COCO mAP 22, Apache-2.0;
samples/configs/ssdlite_mobilenet_v2_coco.config) in TensorFlow.js form. Differences to a plain copy
of its tensors:

- In the backbone and the extra layers the exporter has folded batch normalisation: a dense
  convolution has the scale in its kernel and is followed by a shift, a depthwise one by scale and
  shift. The converted normalisation has mean 0 and variance 1 - eps, its weight is the scale and
  its bias the shift. That is exact for inference; before further training, see
  `restore_statistics`. The prediction layers have their own statistics.
- The 91 columns of scores are the background and COCO's ids 1 to 90. Ten of these ids have no
  category and were never trained; their columns are dropped, and 80 remain in the order of the ids.
- TensorFlow's offsets are (dy, dx, dh, dw); this package's are (dx, dy, dw, dh).

Every constant of the graph is either converted or compared with the detector's configuration:
names, shapes, strides, padding, epsilon, anchors, coder scales, preprocessing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from igcv3det.checkpoint import load_weights
from igcv3det.config import (
    AnchorConfig,
    BackboneConfig,
    DetectorConfig,
    HeadConfig,
    PostprocessConfig,
    PreprocessConfig,
)
from igcv3det.datasets.coco_categories import COCO_CATEGORIES
from igcv3det.detection.anchors import anchors_per_cell
from igcv3det.detector import SSDLite, build_detector
from research.convert.graph_constants import GraphConstants
from research.convert.tfjs import Array, GraphModel, read_graph_model

CONFIG = DetectorConfig(
    num_classes=80,
    image_size=300,
    padding="same",
    variances=(0.1, 0.1, 0.2, 0.2),
    backbone=BackboneConfig(name="mobilenetv2", norm_eps=1e-3, norm_momentum=0.03),
    head=HeadConfig(activation="sigmoid", norm_eps=1e-3, norm_momentum=0.03),
    anchors=AnchorConfig(layout="tensorflow", reduce_lowest=True),
    preprocess=PreprocessConfig(resize="tensorflow"),
    # 100: the pipeline's max_detections_per_class, which TensorFlow.js applies before NMS
    postprocess=PostprocessConfig(iou_threshold=0.6, candidates_per_class=100),
)
"""Values of the pipeline's configuration, as in configs/mobilenetv2_ssdlite300_tf.yaml."""

METADATA = {
    "source": "TensorFlow Object Detection API, model zoo (TF 1): ssdlite_mobilenet_v2_coco",
    "licence": "Apache-2.0",
    "trained_on": "COCO 2014 train and val without minival, by the model's authors",
    "converted_by": "igcv3det tools/convert_tf.py",
}

COLUMNS = 91
ANCHORS = "Postprocessor/ExpandDims"

_FEATURES = "FeatureExtractor/MobilenetV2/"
_BLOCKS = 17
_MAPS = 6
_SWAP = (1, 0, 3, 2)  # dy, dx, dh, dw -> dx, dy, dw, dh
_TOLERANCE = 1e-3 / CONFIG.image_size  # a thousandth of a pixel, for anchors

Kind = Literal["dense", "depthwise", "predictor_depthwise", "classification", "regression"]


@dataclass(frozen=True)
class Layer:
    """Names of one convolution in both networks.

    Attributes:
        kind: determines TensorFlow's tensors and their conversion.
        conv: name of the convolution in this package.
        norm: name of its batch normalisation; empty if the convolution has a bias instead.
        theirs: TensorFlow's scope.
    """

    kind: Kind
    conv: str
    norm: str
    theirs: str


def convert_ssdlite(folder: Path) -> SSDLite:
    """Builds the detector from the folder of the TensorFlow.js model.

    Returns:
        The detector in evaluation mode; `METADATA` is for its checkpoint.

    Raises:
        FileNotFoundError: a file of the model is missing.
        ValueError: the graph is another model; the message names every tensor that is unknown,
            missing, or has another shape or value than expected.
    """
    return convert_graph(read_graph_model(folder))


def convert_graph(graph: GraphModel) -> SSDLite:
    """Like `convert_ssdlite`, for a graph that has been read."""
    detector = build_detector(CONFIG, COCO_CATEGORIES)
    constants = GraphConstants(graph)
    weights: dict[str, Tensor] = {}
    for layer in layers():
        weights.update(_converted(layer, detector, constants))
    for name, value in _expected_constants(detector).items():
        constants.compare(name, value, _TOLERANCE)
    constants.raise_errors("ssdlite_mobilenet_v2_coco")
    load_weights(detector, weights, graph.path)
    return detector.eval()


def layers() -> Iterator[Layer]:
    """The table of names: every convolution of the network."""
    features = "backbone.features."
    yield Layer("dense", f"{features}0.0", f"{features}0.1", f"{_FEATURES}Conv")
    for block in range(_BLOCKS):
        ours = f"{features}{block + 1}.conv."
        theirs = f"{_FEATURES}expanded_conv{f'_{block}' if block else ''}/"
        if block:  # the first block has t = 1 and no expansion
            yield Layer("dense", f"{ours}0.0", f"{ours}0.1", f"{theirs}expand")
        step = 1 if block else 0
        yield Layer("depthwise", f"{ours}{step}.0", f"{ours}{step}.1", f"{theirs}depthwise")
        yield Layer("dense", f"{ours}{step + 1}", f"{ours}{step + 2}", f"{theirs}project")
    yield Layer("dense", f"{features}18.0", f"{features}18.1", f"{_FEATURES}Conv_1")
    for index, channels in enumerate(CONFIG.head.extra_channels):
        ours = f"extras.layers.{index}."
        narrow = f"{_FEATURES}layer_19_1_Conv2d_{index + 2}_1x1_{channels // 2}"
        wide = f"{_FEATURES}layer_19_2_Conv2d_{index + 2}_3x3_s2_{channels}"
        yield Layer("dense", f"{ours}0.0", f"{ours}0.1", narrow)
        yield Layer("depthwise", f"{ours}1.0", f"{ours}1.1", f"{wide}_depthwise")
        yield Layer("dense", f"{ours}2.0", f"{ours}2.1", wide)
    for level in range(_MAPS):
        for task, scope in (
            ("classification", "ClassPredictor"),
            ("regression", "BoxEncodingPredictor"),
        ):
            ours, theirs = f"head.{task}.{level}.", f"BoxPredictor_{level}/{scope}"
            yield Layer("predictor_depthwise", f"{ours}0.0", f"{ours}0.1", f"{theirs}_depthwise")
            yield Layer(task, f"{ours}1", "", theirs)  # type: ignore[arg-type]


def folded_norms(detector: SSDLite) -> list[nn.BatchNorm2d]:
    """The normalisations without statistics: those of the backbone and the extra layers."""
    parts = (detector.backbone, detector.extras)
    return [m for part in parts for m in part.modules() if isinstance(m, nn.BatchNorm2d)]


def _converted(layer: Layer, detector: SSDLite, constants: GraphConstants) -> dict[str, Tensor]:
    """The entries of the state dict for one layer."""
    conv = detector.get_submodule(layer.conv)
    assert isinstance(conv, nn.Conv2d)
    if layer.kind in ("classification", "regression"):
        return _prediction(layer, conv, constants)
    depthwise = layer.kind != "dense"
    scope = layer.theirs
    kernel_name = f"{scope}/{'depthwise_weights' if depthwise else 'Conv2D/merged_input'}"
    outs, ins, height, width = conv.weight.shape
    shape = (height, width, outs, 1) if depthwise else (height, width, ins, outs)
    kernel = constants.take(kernel_name, shape)
    constants.check_convolution(kernel_name, conv.stride)
    channels = (outs,)
    if layer.kind == "predictor_depthwise":
        norm = {
            ours: constants.take(f"{scope}/BatchNorm/{theirs}", channels)
            for ours, theirs in (
                ("weight", "gamma"),
                ("bias", "beta"),
                ("running_mean", "moving_mean"),
                ("running_var", "moving_variance"),
            )
        }
        constants.check_epsilon(f"{scope}/BatchNorm/gamma", CONFIG.head.norm_eps)
    else:
        ones = np.ones(channels, np.float32)
        folded = f"{scope}/BatchNorm/batchnorm"
        norm = {
            "weight": constants.take(f"{folded}/mul", channels) if depthwise else ones,
            "bias": constants.take(f"{folded}/sub", channels),
            "running_mean": 0 * ones,
            "running_var": ones - np.float32(CONFIG.backbone.norm_eps),
        }
    axes = (2, 3, 0, 1) if depthwise else (3, 2, 0, 1)
    return {
        f"{layer.conv}.weight": _tensor(kernel.transpose(axes)),
        **{f"{layer.norm}.{name}": _tensor(value) for name, value in norm.items()},
        f"{layer.norm}.num_batches_tracked": torch.tensor(0),
    }


def _prediction(layer: Layer, conv: nn.Conv2d, constants: GraphConstants) -> dict[str, Tensor]:
    """A 1x1 prediction layer: selects and reorders the columns of every anchor of a cell."""
    if layer.kind == "classification":
        columns, picked = COLUMNS, (0, *COCO_CATEGORIES.ids)
    else:
        columns, picked = len(_SWAP), _SWAP
    boxes = conv.out_channels // len(picked)
    kernel_name = f"{layer.theirs}/weights"
    kernel = constants.take(kernel_name, (1, 1, conv.in_channels, boxes * columns))
    bias = constants.take(f"{layer.theirs}/biases", (boxes * columns,))
    constants.check_convolution(kernel_name, conv.stride)
    rows = kernel[0, 0].T.reshape(boxes, columns, conv.in_channels)[:, list(picked)]
    return {
        f"{layer.conv}.weight": _tensor(rows.reshape(conv.weight.shape)),
        f"{layer.conv}.bias": _tensor(bias.reshape(boxes, columns)[:, list(picked)].reshape(-1)),
    }


def _expected_constants(detector: SSDLite) -> dict[str, Array]:
    """Values of the graph's other constants that follow from the configuration."""
    size = CONFIG.image_size
    corners = detector.anchors[:, [1, 0, 3, 2]].numpy() / size  # yxyx, shares of the image
    per_cell = anchors_per_cell(CONFIG.anchors, _MAPS)
    values: dict[str, object] = {
        ANCHORS: corners[None],
        # preprocessing: resized to the input size, then scaled to [-1, 1]
        "Preprocessor/mul/x": 1 / CONFIG.preprocess.std[0],
        "Preprocessor/sub/y": CONFIG.preprocess.mean[0] / CONFIG.preprocess.std[0],
        "Preprocessor/map/while/ResizeImage/stack": [size, size],
        "Preprocessor/map/while/ResizeImage/ExpandDims/dim": 0,
        "Preprocessor/map/while/add/y": 1,
        "Preprocessor/map/TensorArrayStack/range/start": 0,
        # the box coder
        "ConstantFolding/Postprocessor/Decode/div_recip": CONFIG.variances[0],
        "ConstantFolding/Postprocessor/Decode/div_2_recip": CONFIG.variances[2],
        "ConstantFolding/Postprocessor/Decode/div_4_recip": 0.5,
        "Postprocessor/Decode/transpose/sub_1": [1, 0],
        "Postprocessor/Decode/transpose_1/sub_1": [1, 0],
        "Postprocessor/Decode/get_center_coordinates_and_sizes/transpose/sub_1": [1, 0],
        # shapes: anchors, coordinates, and the scores without their background column
        "MultipleGridAnchorGenerator/assert_equal/x": len(corners),
        "BoxPredictor_0/stack/3": 4,
        "BoxPredictor_0/stack_1/2": COLUMNS,
        "Postprocessor/Slice/begin": [0, 0, 1],
        "Postprocessor/Slice/size": [-1, -1, -1],
        "Postprocessor/Reshape_1/shape": [-1, 4],
        "Postprocessor/Tile/multiples/1": 1,
        "Postprocessor/ExpandDims_1/dim": 2,
        "Postprocessor/strided_slice/stack": [0],
        "Postprocessor/strided_slice/stack_1": [1],
    }
    for level, (rows, columns) in enumerate(detector.feature_sizes):
        values[f"BoxPredictor_{level}/stack/1"] = rows * columns * per_cell[level]
    return {name: np.asarray(value) for name, value in values.items()}


def _tensor(value: Array) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(value))
