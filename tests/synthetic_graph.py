"""Writes a TensorFlow.js model with the nodes of ssdlite_mobilenet_v2_coco and random weights.

Names and wiring are written down here as the published model.json has them, apart from the
converter's own table. The resizing loop and the decoding of boxes are left out as operations, but
not the constants they use.
"""

import json
import math
from pathlib import Path

import numpy as np

FEATURES = "FeatureExtractor/MobilenetV2/"
# (t, c, n, s) of the MobileNetV2 paper, table 2
STAGES = [
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
]
SIDES = (19, 10, 5, 3, 2, 1)


class Builder:
    def __init__(self, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[dict] = []
        self.weights: dict[str, np.ndarray] = {}

    def constant(self, name: str, value) -> str:
        value = np.asarray(value)
        kind = np.int32 if value.dtype.kind == "i" else np.float32
        self.weights[name] = value.astype(kind)
        self.nodes.append({"name": name, "op": "Const", "input": []})
        return name

    def node(self, op: str, name: str, *inputs: str, **attributes) -> str:
        self.nodes.append({"name": name, "op": op, "input": list(inputs), "attr": attributes})
        return name

    def normal(self, *shape: int, std: float) -> np.ndarray:
        return self.random.normal(0, std, shape)

    def convolution(self, op: str, name: str, x: str, kernel: str, stride: int) -> str:
        return self.node(
            op,
            name,
            x,
            kernel,
            strides={"list": {"i": ["1", str(stride), str(stride), "1"]}},
            dilations={"list": {"i": ["1", "1", "1", "1"]}},
            padding={"s": list(b"SAME")},
            data_format={"s": list(b"NHWC")},
        )

    def dense(self, scope: str, x: str, ins: int, outs: int, side=1, stride=1, relu=True) -> str:
        std = math.sqrt(2 / (side * side * ins))
        kernel = self.constant(
            f"{scope}/Conv2D/merged_input", self.normal(side, side, ins, outs, std=std)
        )
        x = self.convolution("Conv2D", f"{scope}/BatchNorm/batchnorm/mul_1", x, kernel, stride)
        return self.shifted(scope, x, outs, relu)

    def depthwise(self, scope: str, x: str, channels: int, stride: int) -> str:
        kernel = self.constant(
            f"{scope}/depthwise_weights", self.normal(3, 3, channels, 1, std=0.4)
        )
        x = self.convolution("DepthwiseConv2dNative", f"{scope}/depthwise", x, kernel, stride)
        scale = self.random.uniform(0.5, 1.5, channels)
        scale = self.constant(f"{scope}/BatchNorm/batchnorm/mul", scale)
        x = self.node("Mul", f"{scope}/BatchNorm/batchnorm/mul_1", x, scale)
        return self.shifted(scope, x, channels, relu=True)

    def shifted(self, scope: str, x: str, channels: int, relu: bool) -> str:
        shift = self.constant(f"{scope}/BatchNorm/batchnorm/sub", self.normal(channels, std=0.3))
        x = self.node("Add", f"{scope}/BatchNorm/batchnorm/add_1", x, shift)
        return self.node("Relu6", f"{scope}/Relu6", x) if relu else x

    def predictor(self, scope: str, x: str, channels: int, outs: int) -> str:
        deep, norm = f"{scope}_depthwise", f"{scope}_depthwise/BatchNorm"
        kernel = self.constant(f"{deep}/depthwise_weights", self.normal(3, 3, channels, 1, std=0.4))
        x = self.convolution("DepthwiseConv2dNative", f"{deep}/depthwise", x, kernel, 1)
        statistics = [
            self.constant(f"{norm}/gamma", self.random.uniform(0.5, 1.5, channels)),
            self.constant(f"{norm}/beta", self.normal(channels, std=0.3)),
            self.constant(f"{norm}/moving_mean", self.normal(channels, std=0.3)),
            self.constant(f"{norm}/moving_variance", self.random.uniform(0.5, 2, channels)),
        ]
        x = self.node(
            "FusedBatchNorm",
            f"{norm}/FusedBatchNorm",
            x,
            *statistics,
            epsilon={"f": 0.0010000000474974513},
            is_training={"b": False},
        )
        x = self.node("Relu6", f"{deep}/Relu6", x)
        std = math.sqrt(1 / channels)
        kernel = self.constant(f"{scope}/weights", self.normal(1, 1, channels, outs, std=std))
        x = self.convolution("Conv2D", f"{scope}/Conv2D", x, kernel, 1)
        bias = self.constant(f"{scope}/biases", self.normal(outs, std=0.3))
        return self.node("BiasAdd", f"{scope}/BiasAdd", x, bias)


def write_model(folder: Path, seed: int = 0) -> None:
    """``model.json`` and two shards, cut where no tensor ends."""
    builder = Builder(seed)
    _constants(builder)
    maps = _features(builder)
    for level, (x, channels) in enumerate(maps):
        _predictions(builder, level, x, channels)
    last = "Postprocessor/Tile/multiples/1"
    boxes = [f"BoxPredictor_{level}/Reshape" for level in range(6)]
    builder.node("ConcatV2", "concat", *boxes, last)
    builder.node("ConcatV2", "concat_1", *(f"{name}_1" for name in boxes), last)
    builder.node("Squeeze", "Squeeze", "concat", squeeze_dims={"list": {"i": ["2"]}})
    write_files(folder, builder.nodes, builder.weights)


def write_files(folder: Path, nodes: list[dict], weights: dict[str, np.ndarray]) -> None:
    raw = b"".join(
        value.astype(value.dtype.newbyteorder("<")).tobytes() for value in weights.values()
    )
    cut = len(raw) // 2 + 1
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "group1-shard1of2").write_bytes(raw[:cut])
    (folder / "group1-shard2of2").write_bytes(raw[cut:])
    entries = [
        {"name": name, "shape": list(value.shape), "dtype": value.dtype.name}
        for name, value in weights.items()
    ]
    paths = ["group1-shard1of2", "group1-shard2of2"]
    model = {
        "modelTopology": {"node": nodes},
        "weightsManifest": [{"paths": paths, "weights": entries}],
    }
    (folder / "model.json").write_text(json.dumps(model))


def _features(builder: Builder) -> list[tuple[str, int]]:
    """The six maps and their channels."""
    x = builder.dense(f"{FEATURES}Conv", "Preprocessor/sub", 3, 32, side=3, stride=2)
    channels, index, maps = 32, 0, []
    for t, c, n, s in STAGES:
        for repeat in range(n):
            scope = f"{FEATURES}expanded_conv{f'_{index}' if index else ''}"
            stride, shortcut, wide = s if repeat == 0 else 1, x, channels * t
            if t > 1:
                x = builder.dense(f"{scope}/expand", x, channels, wide)
            if index == 13:
                maps.append((x, wide))
            x = builder.depthwise(f"{scope}/depthwise", x, wide, stride)
            x = builder.dense(f"{scope}/project", x, wide, c, relu=False)
            if repeat > 0:
                x = builder.node("Add", f"{scope}/add", x, shortcut)
            channels, index = c, index + 1
    x = builder.dense(f"{FEATURES}Conv_1", x, channels, 1280)
    maps.append((x, 1280))
    channels = 1280
    for number, wide in enumerate((512, 256, 256, 128), start=2):
        narrow = f"{FEATURES}layer_19_1_Conv2d_{number}_1x1_{wide // 2}"
        scope = f"{FEATURES}layer_19_2_Conv2d_{number}_3x3_s2_{wide}"
        x = builder.dense(narrow, x, channels, wide // 2)
        x = builder.depthwise(f"{scope}_depthwise", x, wide // 2, 2)
        x = builder.dense(scope, x, wide // 2, wide)
        maps.append((x, wide))
        channels = wide
    return maps


def _predictions(builder: Builder, level: int, x: str, channels: int) -> None:
    scope, count = f"BoxPredictor_{level}", 6 if level else 3
    boxes = builder.predictor(f"{scope}/BoxEncodingPredictor", x, channels, count * 4)
    scores = builder.predictor(f"{scope}/ClassPredictor", x, channels, count * 91)
    one, total = "Postprocessor/Tile/multiples/1", f"{scope}/stack/1"
    builder.constant(total, count * SIDES[level] ** 2)
    shape = builder.node("Shape", f"{scope}/Shape", x)
    stops = [f"Postprocessor/strided_slice/{name}" for name in ("stack", "stack_1", "stack_1")]
    batch = builder.node(
        "StridedSlice", f"{scope}/strided_slice", shape, *stops, shrink_axis_mask={"i": "1"}
    )
    axis = {"i": "0"}
    stack = builder.node(
        "Pack", f"{scope}/stack", batch, total, one, "BoxPredictor_0/stack/3", axis=axis
    )
    builder.node("Reshape", f"{scope}/Reshape", boxes, stack)
    stack = builder.node(
        "Pack", f"{scope}/stack_1", batch, total, "BoxPredictor_0/stack_1/2", axis=axis
    )
    builder.node("Reshape", f"{scope}/Reshape_1", scores, stack)


def _constants(builder: Builder) -> None:
    decode, loop = "Postprocessor/Decode/", "Preprocessor/map/"
    for name, value in {
        "Preprocessor/mul/x": 2 / 255,
        "Preprocessor/sub/y": 1.0,
        f"{loop}TensorArrayStack/range/start": 0,
        f"{loop}while/ResizeImage/stack": [300, 300],
        f"{loop}while/ResizeImage/ExpandDims/dim": 0,
        f"{loop}while/add/y": 1,
        f"ConstantFolding/{decode}div_recip": 1 / 10,
        f"ConstantFolding/{decode}div_2_recip": 1 / 5,
        f"ConstantFolding/{decode}div_4_recip": 0.5,
        f"{decode}transpose/sub_1": [1, 0],
        f"{decode}transpose_1/sub_1": [1, 0],
        f"{decode}get_center_coordinates_and_sizes/transpose/sub_1": [1, 0],
        "Postprocessor/ExpandDims": _anchors(),
        "Postprocessor/ExpandDims_1/dim": 2,
        "Postprocessor/Reshape_1/shape": [-1, 4],
        "Postprocessor/Slice/begin": [0, 0, 1],
        "Postprocessor/Slice/size": [-1, -1, -1],
        "Postprocessor/Tile/multiples/1": 1,
        "Postprocessor/strided_slice/stack": [0],
        "Postprocessor/strided_slice/stack_1": [1],
        "MultipleGridAnchorGenerator/assert_equal/x": 1917,
        "BoxPredictor_0/stack/3": 4,
        "BoxPredictor_0/stack_1/2": 91,
    }.items():
        builder.constant(name, value)
    resized = f"{loop}TensorArrayStack/TensorArrayGatherV3"  # the end of the loop that is left out
    builder.node("Mul", "Preprocessor/mul", "Preprocessor/mul/x", resized)
    builder.node("Sub", "Preprocessor/sub", "Preprocessor/mul", "Preprocessor/sub/y")


def _anchors() -> np.ndarray:
    """[1, 1917, 4] yxyx, shares of the image (create_ssd_anchors of the Object Detection API)."""
    scales = [*(0.2 + 0.15 * level for level in range(6)), 1.0]
    anchors = []
    for level, side in enumerate(SIDES):
        scale = scales[level]
        shapes = [(scale, r) for r in (1, 2, 1 / 2, 3, 0.3333)]  # as pipeline.config has it
        shapes.append((math.sqrt(scale * scales[level + 1]), 1))
        if level == 0:
            shapes = [(0.1, 1), (scale, 2), (scale, 1 / 2)]
        for cell in range(side * side):
            y, x = (cell // side + 0.5) / side, (cell % side + 0.5) / side
            for share, ratio in shapes:
                h, w = share / math.sqrt(ratio) / 2, share * math.sqrt(ratio) / 2
                anchors.append([y - h, x - w, y + h, x + w])
    return np.array([anchors])
