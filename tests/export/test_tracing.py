"""Modules as ONNX graphs."""

import logging

import torch
from torch import nn

from igcv3det.export.tracing import trace_onnx


def test_the_exporter_logs_nothing(caplog):
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU6(), nn.Conv2d(4, 4, 3), nn.ReLU6())
    level = logging.getLogger("onnxscript").level
    with caplog.at_level(logging.INFO):
        model = trace_onnx(network, {"images": torch.zeros(2, 3, 8, 8)}, ("maps",))
    assert not caplog.records
    assert logging.getLogger("onnxscript").level == level
    assert [value.name for value in model.graph.output] == ["maps"]
