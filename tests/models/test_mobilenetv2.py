"""MobileNetV2 against torchvision and the paper's counts."""

import pytest
import torch
import torchvision
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from igcv3det.config import BackboneConfig
from igcv3det.models.igcv3 import CIFAR_STRIDES
from igcv3det.models.mobilenetv2 import MobileNetV2, mobilenet_v2


def test_counts():
    network = mobilenet_v2().eval()
    assert sum(p.numel() for p in network.parameters()) == 3_504_872
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, 3, 224, 224))
    assert counter.get_total_flops() / 2 == pytest.approx(300.8e6, rel=1e-3)


@pytest.mark.parametrize(("classes", "parameters"), [(10, 2_236_682), (100, 2_351_972)])
def test_cifar_counts(classes, parameters):
    # cvtower/SeesawNet_pytorch counted: 165.2 M multiply-adds, as IGCV3 with the same strides
    network = MobileNetV2(BackboneConfig(name="mobilenetv2"), classes, strides=CIFAR_STRIDES).eval()
    assert sum(p.numel() for p in network.parameters()) == parameters
    assert network.feature_reductions == (4, 4)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, 3, 32, 32))
    assert counter.get_total_flops() / 2 == pytest.approx(165.2e6, rel=1e-3)


def test_torchvision_weights_give_torchvisions_outputs():
    oracle = torchvision.models.mobilenet_v2(num_classes=11).eval()
    network = mobilenet_v2(11).eval()
    network.load_state_dict(oracle.state_dict())
    x = torch.randn(2, 3, 64, 64)
    assert_close(network(x), oracle(x))


@pytest.mark.parametrize("width", [0.1, 0.35, 0.75, 1.0, 1.4])
def test_widths_and_initial_weights_are_torchvisions(width):
    torch.manual_seed(0)
    oracle = torchvision.models.mobilenet_v2(num_classes=3, width_mult=width)
    after = torch.rand(1)
    torch.manual_seed(0)
    network = mobilenet_v2(3, width)
    assert_close(dict(network.state_dict()), dict(oracle.state_dict()), rtol=0, atol=0)
    assert torch.equal(torch.rand(1), after)


def test_taps_are_the_papers():
    network = MobileNetV2(BackboneConfig(name="mobilenetv2"), 0).eval()
    assert network.feature_channels == (576, 1280)
    x = torch.randn(1, 3, 320, 320)
    with torch.no_grad():
        fine, last = network.forward_features(x)
        before = network.features[:14](x)
        assert_close(fine, network.features[14].conv[0](before))
        assert_close(last, network.features(x))
    assert fine.shape == (1, 576, 20, 20)
    assert last.shape == (1, 1280, 10, 10)


def test_same_padding_gives_the_same_sizes():
    config = BackboneConfig(name="mobilenetv2", width=0.35)
    network = MobileNetV2(config, 0, padding="same").eval()
    with torch.no_grad():
        shapes = [tuple(f.shape[2:]) for f in network.forward_features(torch.zeros(1, 3, 300, 300))]
    assert shapes == [(19, 19), (10, 10)]


def test_no_classifier_is_an_error():
    with pytest.raises(ValueError, match="num_classes=0"):
        MobileNetV2(BackboneConfig(name="mobilenetv2"), 0)(torch.zeros(1, 3, 32, 32))
