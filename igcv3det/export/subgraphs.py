"""The subgraphs of ONNX and OpenVINO files.

PyTorch traces network and decoding, so their arithmetic is written once; the others are in
`igcv3det.export.graphs`. Only the network is stored in half precision or quantised; everything
around it computes in float32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from igcv3det.detector import SSDLite
from igcv3det.export.assemble import Subgraph
from igcv3det.export.graphs import nms_graph, preprocessing_graph, rescaling_graph
from igcv3det.export.network import Decoding, Network
from igcv3det.export.tracing import trace_onnx
from igcv3det.fastpath.deploy import Variant, deploy
from igcv3det.runtime.export_spec import CANDIDATE_OUTPUTS, INPUT, NMS_OUTPUTS, ExportSpec

if TYPE_CHECKING:
    import onnx

NETWORK = "network"
HEADS = ("logits", "offsets")
_TRACED_BATCH = 2  # the tracer would take a batch of one for a constant


def make_subgraphs(detector: SSDLite, spec: ExportSpec, variant: Variant) -> dict[str, Subgraph]:
    """All subgraphs by name, in the order in which they run."""
    config, anchors = detector.config, len(detector.anchors)
    batch = 1 if spec.nms else None
    subgraphs = [
        Subgraph(NETWORK, _trace_network(deploy(detector, variant), spec), HEADS),
        Subgraph("decoding", _trace_decoding(detector, batch), CANDIDATE_OUTPUTS),
    ]
    if spec.preprocessing:
        before = preprocessing_graph(config.preprocess, config.image_size, batch)
        subgraphs.insert(0, Subgraph("preprocessing", before, (INPUT, "sides")))
        subgraphs.append(Subgraph("rescaling", rescaling_graph(anchors, batch), ("boxes",)))
    if spec.nms:
        after = nms_graph(config.postprocess, anchors, config.num_classes)
        subgraphs.append(Subgraph("nms", after, NMS_OUTPUTS))
    return {subgraph.name: subgraph for subgraph in subgraphs}


def _trace_network(detector: SSDLite, spec: ExportSpec) -> onnx.ModelProto:
    size = detector.config.image_size
    dtype = torch.float16 if spec.precision == "fp16" else torch.float32
    images = torch.zeros(1 if spec.nms else _TRACED_BATCH, 3, size, size)
    return trace_onnx(Network(detector.cpu(), dtype), {INPUT: images}, HEADS)


def _trace_decoding(detector: SSDLite, batch: int | None) -> onnx.ModelProto:
    shape = (batch or _TRACED_BATCH, len(detector.anchors))
    heads = (torch.zeros(*shape, detector.config.num_classes + 1), torch.zeros(*shape, 4))
    return trace_onnx(Decoding(detector), dict(zip(HEADS, heads, strict=True)), CANDIDATE_OUTPUTS)
