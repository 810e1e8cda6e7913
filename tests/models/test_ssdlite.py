"""Extra and prediction layers: values against torchvision, order by construction."""

from functools import partial
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.testing import assert_close
from torchvision.models.detection import ssdlite as oracle

from igcv3det.config import HeadConfig
from igcv3det.models.ssdlite import ExtraLayers, SSDLiteHead

NORM = partial(nn.BatchNorm2d, eps=1e-3, momentum=0.03)


def test_extra_layers_are_torchvisions():
    ours = ExtraLayers(1280, HeadConfig()).eval()
    widths = (1280, 512, 256, 256, 128)
    theirs = nn.ModuleList(oracle._extra_block(i, o, NORM) for i, o in pairwise(widths)).eval()
    _copy_in_order(theirs, ours)
    x = torch.randn(1, 1280, 10, 10)
    expected = x
    for layer, actual in zip(theirs, ours(x), strict=True):
        expected = layer(expected)
        assert_close(actual, expected)
    assert [f.shape[-1] for f in ours(x)] == [5, 3, 2, 1]


def test_prediction_layers_are_torchvisions():
    channels, per_cell, classes = [24, 32], [6, 4], 5
    ours = SSDLiteHead(channels, per_cell, classes, HeadConfig()).eval()
    theirs = oracle.SSDLiteHead(channels, per_cell, classes + 1, NORM).eval()
    _copy_in_order(theirs.classification_head, ours.classification)
    _copy_in_order(theirs.regression_head, ours.regression)
    features = [torch.randn(2, 24, 4, 4), torch.randn(2, 32, 2, 2)]
    outputs = ours(features)
    expected = theirs(features)
    assert_close(outputs.logits, expected["cls_logits"])
    assert_close(outputs.offsets, expected["bbox_regression"])


def _copy_in_order(source, target):
    ours, theirs = target.state_dict(), source.state_dict()
    assert [v.shape for v in ours.values()] == [v.shape for v in theirs.values()]
    target.load_state_dict(dict(zip(ours, theirs.values(), strict=True)))


def test_sigmoid_head_starts_with_rare_objects():
    head = SSDLiteHead([8], [3], 4, HeadConfig(activation="sigmoid", init_std=1e-6)).eval()
    scores = head([torch.zeros(1, 8, 2, 2)]).logits.sigmoid()
    assert_close(scores, torch.full((1, 12, 5), 0.01), atol=1e-4, rtol=0)


@pytest.mark.parametrize(("row", "column", "anchor"), [(0, 0, 0), (0, 1, 2), (1, 0, 5)])
def test_rows_run_map_by_map_and_cell_by_cell(row, column, anchor):
    per_cell, classes = 6, 2
    head = SSDLiteHead([4], [per_cell], classes, HeadConfig()).eval()
    fired = torch.zeros(1, per_cell * (classes + 1), 2, 2)
    fired[0, anchor * (classes + 1) + 1, row, column] = 1
    head.classification[0] = _Constant(fired)
    logits = head([torch.zeros(1, 4, 2, 2)]).logits
    index = (row * 2 + column) * per_cell + anchor
    assert logits.nonzero().tolist() == [[0, index, 1]]


class _Constant(nn.Module):
    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, x):
        return self.value
