"""The subgraphs around the network: preprocessing, rescaling of boxes, NMS.

They are written as ONNX text, so that what a file computes can be read here line by line, and are
joined to the traced network by `igcv3det.export.assemble`. All use operator set 18, the first whose
Resize takes axes and the one that PyTorch's exporter writes without a conversion. Nothing here
needs a later one, and older runtimes read older sets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from igcv3det.config import PostprocessConfig, PreprocessConfig

if TYPE_CHECKING:
    import onnx

OPSET = 18
IR_VERSION = 10  # what PyTorch's exporter writes
_HEADER = f'<ir_version: {IR_VERSION}, opset_import: ["": {OPSET}]>'


def preprocessing_graph(config: PreprocessConfig, size: int, batch: int | None) -> onnx.ModelProto:
    """`Preprocess` as a graph, images uint8 [B, H, W, 3] to normalised float32 [B, 3, S, S].

    TensorFlow's resizing is reproduced exactly. OpenCV's differs by one grey level in some pixels,
    because OpenCV computes with fixed-point weights and the runtimes do not.

    A second output ``sides`` holds (W, H, W, H) / S, for boxes in the images' own pixels.
    """
    if config.resize == "tensorflow":
        mode, rounding = "asymmetric", "rounded = Identity (resized)"
    else:
        mode = "half_pixel"
        rounding = "half = Constant <value_float = 0.5> ()\n"
        rounding += "raised = Add (resized, half)\nrounded = Floor (raised)"
    return _parsed(f"""{_HEADER}
        preprocess (uint8[{batch or "batch"}, height, width, 3] images)
            => (float[{batch or "batch"}, 3, {size}, {size}] normalised, float[4] sides)
        <
            int64[2] size = {{{size}, {size}}},
            float[1, 3, 1, 1] mean = {_numbers(config.mean)},
            float[1, 3, 1, 1] std = {_numbers(config.std)},
            float side = {{{float(size)}}},
            int64[4] width_and_height = {{1, 0, 1, 0}}
        >
        {{
            planes = Transpose <perm = [0, 3, 1, 2]> (images)
            pixels = Cast <to = 1> (planes)
            resized = Resize <
                mode = "linear", coordinate_transformation_mode = "{mode}", axes = [2, 3]
            > (pixels, , , size)
            {rounding}
            shifted = Sub (rounded, mean)
            normalised = Div (shifted, std)
            height_and_width = Shape <start = 1, end = 3> (images)
            in_order = Gather (height_and_width, width_and_height)
            in_pixels = Cast <to = 1> (in_order)
            sides = Div (in_pixels, side)
        }}""")


def rescaling_graph(anchors: int, batch: int | None) -> onnx.ModelProto:
    """Boxes [B, A, 4] in pixels of the network input to pixels of the images, by ``sides``."""
    boxes = f"float[{batch or 'batch'}, {anchors}, 4]"
    return _parsed(f"""{_HEADER}
        rescale ({boxes} boxes, float[4] sides) => ({boxes} rescaled)
        {{ rescaled = Mul (boxes, sides) }}""")


def nms_graph(config: PostprocessConfig, anchors: int, num_classes: int) -> onnx.ModelProto:
    """`select_detections` as a graph, for one image.

    Clipped boxes [1, A, 4] and scores [1, A, K] to boxes [N, 4], scores [N] and labels [N], best
    first. Ties between equal scores may be broken differently than in PyTorch.
    """
    best_of_class = "candidate_scores = Identity (by_class)"
    if config.candidates_per_class < anchors:
        best_of_class = f"""
            candidates = Constant <value_ints = [{config.candidates_per_class}]> ()
            last = Constant <value_ints = [{config.candidates_per_class - 1}]> ()
            top, top_rows = TopK (by_class, candidates)
            weakest = Gather <axis = 2> (top, last)
            is_candidate = GreaterOrEqual (by_class, weakest)
            candidate_scores = Where (is_candidate, by_class, nothing)"""
    # No class can have more detections than all classes together
    most = min(config.candidates_per_class, config.detections_per_image)
    return _parsed(f"""{_HEADER}
        nms (float[1, {anchors}, 4] boxes, float[1, {anchors}, {num_classes}] scores)
            => (float[detections, 4] best_boxes, float[detections] best_scores,
                int64[detections] labels)
        <
            float nothing = {{0.0}},
            int64 most = {{{most}}},
            float iou_threshold = {{{config.iou_threshold}}},
            float score_threshold = {{{config.score_threshold}}},
            int64[1] zero = {{0}}, int64[1] one = {{1}},
            int64[1] two = {{2}}, int64[1] three = {{3}},
            int64[1] detections_per_image = {{{config.detections_per_image}}}
        >
        {{{_CLASS_SCORES} {best_of_class} {_BEST_DETECTIONS}}}""")


_CLASS_SCORES = """
            top_left, bottom_right = Split <axis = 2, num_outputs = 2> (boxes)
            extents = Sub (bottom_right, top_left)
            shortest = ReduceMin <keepdims = 1> (extents, two)
            has_area = Greater (shortest, nothing)
            usable = Where (has_area, scores, nothing)
            by_class = Transpose <perm = [0, 2, 1]> (usable)"""
_BEST_DETECTIONS = """
            kept = NonMaxSuppression (
                boxes, candidate_scores, most, iou_threshold, score_threshold
            )
            kept_scores = GatherND (candidate_scores, kept)
            survivors = Shape <start = 0, end = 1> (kept)
            places = Min (survivors, detections_per_image)
            best_scores, order = TopK (kept_scores, places)
            in_order = Gather (kept, order)
            classes = Slice (in_order, one, two, one)
            rows = Slice (in_order, two, three, one)
            class_column = Squeeze (classes, one)
            labels = Add (class_column, one)
            row_column = Squeeze (rows, one)
            image = Squeeze (boxes, zero)
            best_boxes = Gather (image, row_column)
        """


def _numbers(values: tuple[float, ...]) -> str:
    return "{" + ", ".join(str(float(value)) for value in values) + "}"


def _parsed(text: str) -> onnx.ModelProto:
    import onnx.parser

    return onnx.parser.parse_model(text)
