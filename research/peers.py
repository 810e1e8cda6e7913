r"""Compares detectors of this package with other projects' lightweight detectors.

Usage:
    python -m research.peers [CHECKPOINT...] --peers DIR [--annotations JSON --images DIR]
                               [--json FILE] [--threads 2] [--rounds 50]

Example:
    python -m research.peers teacher.safetensors --peers downloads/peers --json peers.json \
        --annotations data/coco/annotations/instances_val2017.json --images data/coco/val2017

All models run under ONNX Runtime. DIR holds any of nanodet.onnx, nanodet_m.onnx, FastestDet.onnx
and yolox_nano.onnx. Parameters and multiply-adds are counted in the ONNX graphs (weights and biases
of convolutions and matrix products, after batch normalisation has been folded in). Latency is the
median of the network alone, batch 1, all models timed in turn. AP is COCO's, with scores from 0.01
up and 100 detections per image.

Exit status: 0 all done, 1 a model or the data could not be read, 2 wrong call.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import shape_inference
from torch import Tensor

from igcv3det.checkpoint import load_detector
from igcv3det.cli.command import DONE, FAILED, command_parser, report, run_command
from igcv3det.cli.compare import comparison_table
from igcv3det.cli.results import write_json
from igcv3det.config import DetectorConfig
from igcv3det.datasets.coco_categories import COCO_CATEGORIES
from igcv3det.detector import SSDLite
from igcv3det.evaluation import CocoEvaluator
from igcv3det.evaluation.dataset_inference import (
    DETECTIONS_PER_IMAGE,
    SCORE_THRESHOLD,
    BatchDetector,
    score_images,
)
from igcv3det.io.images import Image
from igcv3det.measure.comparison import ComparisonRow
from igcv3det.measure.latency import Timing, ratios, time_in_turn
from igcv3det.predictor import Predictor
from igcv3det.structures import Categories, Detections, HeadOutputs
from research.peer_models import PEERS, Array, Peer

LAYERS = ("Conv", "Gemm", "MatMul")


class PeerRow(ComparisonRow):
    """A row of the JSON file: that of ``igcv3det compare``, with input side and timing spread."""

    image_size: int
    latency_spread_ms: float


class OnnxNetwork:
    """The network of a detector under ONNX Runtime, for `Predictor`."""

    def __init__(self, detector: SSDLite, run: Callable[[Array], list[Array]]) -> None:
        self.config: DetectorConfig = detector.config
        self.categories: Categories = detector.categories
        self.anchors: Tensor = detector.anchors
        self._run = run

    def __call__(self, images: Tensor) -> HeadOutputs:
        """One image at a time, as the graph was exported."""
        pairs = [self._run(image[None].numpy()) for image in images]
        logits, offsets = (torch.from_numpy(np.concatenate(o)) for o in zip(*pairs, strict=True))
        return HeadOutputs(logits, offsets)


class PeerDetector:
    """Another project's detector, for `score_images`; it preprocesses inside `detect`.

    Args:
        peer: its preprocessing and decoding.
        size: side of its input, pixels.
        run: the network on [1, 3, S, S].
    """

    categories = COCO_CATEGORIES

    def __init__(self, peer: Peer, size: int, run: Callable[[Array], list[Array]]) -> None:
        self._detect = partial(peer.detect, size=size, run=run)

    def preprocess(self, image: Image) -> Tensor:
        """The image itself, [H, W, 3]."""
        return torch.from_numpy(image)

    def detect(
        self, inputs: Sequence[Tensor], original_sizes: Sequence[tuple[int, int]]
    ) -> list[Detections]:
        """Detections of each image, in its pixels."""
        return [self._detect(image.numpy()) for image in inputs]


@dataclass(frozen=True)
class ComparedDetector:
    """A row of the table, before measuring.

    Attributes:
        name: name of the model.
        size: side of its input, pixels.
        graph: ONNX graph, for counting.
        run: the network on [1, 3, S, S].
        detector: detects with ``run``.
    """

    name: str
    size: int
    graph: onnx.ModelProto
    run: Callable[[Array], list[Array]]
    detector: BatchDetector


def main(args: list[str] | None = None) -> int:
    """Returns the exit status."""
    return run_command("peers", _parse, _run, args)


def _run(options: argparse.Namespace) -> int:
    failures: list[str] = []
    targets = _targets(options)
    if not targets:
        raise ValueError(f"{options.peers}: holds none of {', '.join(p.file for p in PEERS)}")
    precisions = {c.name: _average_precision(c, options, failures) for c in targets}
    for failure in failures:
        report("peers", failure)
    blank = {c.name: np.zeros((1, 3, c.size, c.size), np.float32) for c in targets}
    calls = {c.name: partial(c.run, blank[c.name]) for c in targets}
    timings = time_in_turn(calls, options.rounds)
    rows = [
        _row(target, timing, ratio, precisions[target.name])
        for target, timing, ratio in zip(targets, timings, ratios(timings), strict=True)
    ]
    print(comparison_table(rows))
    sizes = ", ".join(f"{target.name} {target.size} px" for target in targets)
    version = onnxruntime.__version__
    print(f"ONNX Runtime {version}, {options.threads} threads, {options.rounds} rounds; {sizes}")
    if options.json:
        write_json(options.json, rows)
        print(f"Figures are in {options.json}")
    return FAILED if failures else DONE


def _parse(args: list[str]) -> argparse.Namespace:
    parser = command_parser("research.peers", __doc__, program="python -m")
    parser.add_argument("checkpoint", nargs="*", type=Path, metavar="CHECKPOINT")
    parser.add_argument("--peers", type=Path, metavar="DIR", required=True)
    parser.add_argument("--annotations", type=Path, metavar="JSON")
    parser.add_argument("--images", type=Path, metavar="DIR")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=50, help="times each model is timed")
    options = parser.parse_args(args)
    if bool(options.annotations) != bool(options.images):
        parser.error("--annotations and --images go together")
    if options.threads < 1 or options.rounds < 1:
        parser.error("--threads and --rounds must be at least 1")
    return options


def _targets(options: argparse.Namespace) -> list[ComparedDetector]:
    found = [our_target(path, options.threads) for path in options.checkpoint]
    return found + [
        peer_target(peer, options.peers / peer.file, options.threads)
        for peer in PEERS
        if (options.peers / peer.file).is_file()
    ]


def peer_target(peer: Peer, path: Path, threads: int) -> ComparedDetector:
    """Another project's detector."""
    graph = onnx.load(path)
    size = graph.graph.input[0].type.tensor_type.shape.dim[2].dim_value
    run = _session(graph, threads)
    return ComparedDetector(peer.name, size, graph, run, PeerDetector(peer, size, run))


def our_target(path: Path, threads: int) -> ComparedDetector:
    """A detector of this package, its network exported to ONNX."""
    detector = load_detector(path)
    size = detector.config.image_size
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "network.onnx"
        example = (torch.zeros(1, 3, size, size),)
        torch.onnx.export(detector, example, file, dynamo=True, verbose=False)
        graph = onnx.load(file)
    run = _session(graph, threads)
    predictor = Predictor(
        OnnxNetwork(detector, run),
        score_threshold=SCORE_THRESHOLD,
        detections_per_image=DETECTIONS_PER_IMAGE,
    )
    return ComparedDetector(path.stem, size, graph, run, predictor)


def _session(graph: onnx.ModelProto, threads: int) -> Callable[[Array], list[Array]]:
    # older exporters list weights as inputs, which the runtime then cannot fold
    weights = {tensor.name for tensor in graph.graph.initializer}
    inputs = [value for value in graph.graph.input if value.name not in weights]
    del graph.graph.input[:]
    graph.graph.input.extend(inputs)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # spinning threads of one session would slow the others
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(
        graph.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name
    return lambda inputs: session.run(None, {name: inputs})


def _average_precision(
    target: ComparedDetector, options: argparse.Namespace, failures: list[str]
) -> float | None:
    if not options.annotations:
        return None
    evaluator = CocoEvaluator(options.annotations, target.detector.categories)
    failures += score_images(target.detector, evaluator, options.images, evaluator.image_ids)
    return float(evaluator.compute()["AP"])


def count(graph: onnx.ModelProto) -> tuple[int, int]:
    """(parameters, multiply-adds) of the convolutions and matrix products of a graph, batch 1.

    Raises:
        ValueError: the output shape of a layer cannot be inferred from the graph.
    """
    inferred = shape_inference.infer_shapes(graph, data_prop=True).graph
    values = [*inferred.value_info, *inferred.output, *inferred.input]
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}
    weights = {t.name: list(t.dims) for t in inferred.initializer}
    shapes.update(weights)
    used: set[str] = set()
    multiply_adds = 0
    for node in inferred.node:
        if node.op_type in LAYERS:
            used |= weights.keys() & set(node.input)
            first, *rest = shapes[node.output[0]]
            if 0 in rest:
                raise ValueError(f"the output of {node.name} has no known shape: {[first, *rest]}")
            kernel = shapes[node.input[1]]  # [out, in / groups, ...], or [in, out] of a product
            products = kernel[1:] if node.op_type == "Conv" else shapes[node.input[0]][-1:]
            multiply_adds += max(first, 1) * math.prod(rest) * math.prod(products)
    return sum(math.prod(weights[name]) for name in used), multiply_adds


def _row(target: ComparedDetector, timing: Timing, ratio: float, ap: float | None) -> PeerRow:
    parameters, multiply_adds = count(target.graph)
    return PeerRow(
        name=target.name,
        parameters=parameters,
        multiply_adds=multiply_adds,
        latency_ms=timing.median_ms,
        latency_ratio=ratio,
        AP=ap,
        image_size=target.size,
        latency_spread_ms=timing.spread_ms,
    )


if __name__ == "__main__":
    sys.exit(main())
