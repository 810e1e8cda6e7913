"""Multiply-adds against arithmetic and against hooks on the layers."""

import pytest
import torch
from torch import nn

from igcv3det.config import BackboneConfig, DetectorConfig
from igcv3det.detector import build_detector
from igcv3det.measure.complexity import count_multiply_adds, count_parameters


def hooked_multiply_adds(module, input_size):
    """Another way to count: weights of each layer times the positions it is applied to."""
    counts = []

    def count(layer, inputs, output):
        places = output.shape[0] * output[0, 0].numel() if output.ndim == 4 else output.shape[0]
        counts.append(places * layer.weight.numel())

    handles = [
        layer.register_forward_hook(count)
        for layer in module.modules()
        if isinstance(layer, (nn.Conv2d, nn.Linear))
    ]
    with torch.no_grad():
        module(torch.zeros(*input_size))
    for handle in handles:
        handle.remove()
    return sum(counts)


def test_small_net_by_arithmetic():
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),  # 4x4 places, 3*8*9 products, 8 biases
        nn.BatchNorm2d(8),
        nn.ReLU6(),
        nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False),  # 4x4, 8*9
        nn.Conv2d(8, 16, 1, groups=2, bias=False),  # 4x4, 8*16/2
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 5),
    )
    assert count_multiply_adds(net, (1, 3, 8, 8)) == 16 * 216 + 16 * 72 + 16 * 64 + 80
    assert count_multiply_adds(net, (2, 3, 8, 8)) == 2 * (16 * 352 + 80)
    assert count_parameters(net) == (216 + 8) + 2 * 8 + 72 + 64 + (80 + 5)


@pytest.mark.parametrize("name", ["igcv3", "mobilenetv2"])
def test_detector_by_hooks(name):
    depth = 0.25 if name == "igcv3" else 1.0
    backbone = BackboneConfig(name=name, width=0.5, depth=depth)
    config = DetectorConfig(num_classes=3, image_size=96, backbone=backbone)
    detector = build_detector(config).eval()
    size = (1, 3, 96, 96)
    assert count_multiply_adds(detector, size) == hooked_multiply_adds(detector, size) > 0


def test_the_module_is_left_unchanged():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout()).train()
    net[1].eval()
    statistics = net[1].running_mean.clone()
    count_multiply_adds(net, (2, 3, 4, 4))
    assert [part.training for part in net.modules()] == [True, True, False, True]
    assert torch.equal(net[1].running_mean, statistics)


def test_shared_parameters_count_once():
    layer = nn.Linear(4, 4, bias=False)
    assert count_parameters(nn.Sequential(layer, layer)) == 16
