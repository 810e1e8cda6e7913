"""IGCV3 against the paper's and the released network's counts, and its complementary condition."""

import itertools

import pytest
import torch
from torch import nn
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from igcv3det.config import BackboneConfig, BlockConfig
from igcv3det.models.connectivity import path_counts
from igcv3det.models.igcv3 import CIFAR_STRIDES, IGCV3, igcv3_d, igcv3_w
from igcv3det.models.igcv3_block import IGCV3Block
from igcv3det.models.layers import norm_layer


def _parameters(module):
    return sum(p.numel() for p in module.parameters())


def _multiply_adds(module, side):
    module.eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(torch.zeros(1, 3, side, side))
    return counter.get_total_flops() // 2


@pytest.mark.parametrize(
    ("build", "parameters", "multiply_adds"),
    [
        # the released models/igcv3-symbol.json, counted; pytorchcv's igcv3_w1 test has the same
        pytest.param(igcv3_d, 3_491_688, 312_970_176, id="D-1.0"),
        # pytorchcv's tests: w3d4, wd2, wd4
        pytest.param(lambda: igcv3_d(width=0.75), 2_638_084, 189_889_232, id="D-0.75"),
        pytest.param(lambda: igcv3_d(width=0.5), 1_985_528, 96_913_888, id="D-0.5"),
        pytest.param(lambda: igcv3_d(width=0.25), 1_534_020, None, id="D-0.25"),
        # the authors' code without its two mistakes, counted
        pytest.param(lambda: igcv3_d(width=0.7), 2_502_486, None, id="D-0.7"),
        pytest.param(lambda: igcv3_d(width=1.4), 6_023_004, None, id="D-1.4"),
        pytest.param(lambda: igcv3_d(groups=(2, 4)), 3_063_304, None, id="D-2-4"),
        pytest.param(lambda: igcv3_d(groups=(4, 2)), 3_115_880, None, id="D-4-2"),
        pytest.param(lambda: igcv3_d(groups=(4, 4)), 2_687_496, None, id="D-4-4"),
        pytest.param(lambda: igcv3_d(groups=(1, 1)), 5_100_072, None, id="D-1-1"),
        # the authors' igcv3_wider.py, counted
        pytest.param(igcv3_w, 5_724_968, 585_817_856, id="W-1.0"),
        pytest.param(lambda: igcv3_w(groups=(4, 4)), 4_009_896, None, id="W-4-4"),
    ],
)
def test_imagenet_counts(build, parameters, multiply_adds):
    network = build()
    assert _parameters(network) == parameters
    if multiply_adds is not None:
        assert _multiply_adds(network, 224) == multiply_adds


def test_cifar_counts():
    assert _parameters(igcv3_d(100, cifar=True)) == 2_338_788
    assert _parameters(igcv3_d(10, cifar=True)) == 2_223_498
    assert _multiply_adds(igcv3_d(10, cifar=True), 32) == pytest.approx(166.1e6, rel=1e-3)


def test_depth_cuts_on_cifar():
    # halved repeats give 1.38 M, 1-2-3-4-2-2-1 gives 1.15 M
    assert _parameters(igcv3_d(10, depth=0.5, cifar=True)) == pytest.approx(1.38e6, abs=5e3)
    cut = IGCV3(BackboneConfig(repeats=(1, 2, 3, 4, 2, 2, 1)), 10, strides=CIFAR_STRIDES)
    assert _parameters(cut) == pytest.approx(1.15e6, abs=5e3)


def test_structure_of_the_released_network():
    network = igcv3_d()
    blocks = list(network.blocks)
    assert len(blocks) == 32
    assert sum(block.shortcut for block in blocks) == 25
    assert sum(isinstance(m, nn.ReLU6) for m in network.modules()) == 34
    assert not any(isinstance(m, nn.ReLU6) for block in blocks for m in block.expand)
    assert all(isinstance(block.p2, nn.Identity) for block in blocks)
    assert blocks[0].expand[0].weight.shape == (32, 16, 1, 1)  # t = 1 keeps its expansion


def _connectivity(block):
    """[C', C] number of paths from input to output channel."""
    return path_counts([block.expand, block.p1, block.depthwise, block.project, block.p2])


def _condition_can_hold(channels, groups, super_channels):
    """The condition from the paper's words: super-channels of the branches in turn."""
    pieces = super_channels or channels
    if pieces % groups[0]:
        return False
    branches = [range(i, pieces, groups[0]) for i in range(groups[0])]  # where each branch goes
    piece, share = channels // pieces, channels // groups[1]
    places = [{(p * piece + c) // share for p in b for c in range(piece)} for b in branches]
    return all(place == set(range(groups[1])) for place in places)


GROUPS = list(itertools.product((1, 2, 3, 4, 6, 8), repeat=2))


@pytest.mark.parametrize("groups", GROUPS, ids=str)
@pytest.mark.parametrize("super_channels", [None, 4, 8, 16, 24, 48], ids=lambda c: f"Cs={c}")
def test_every_accepted_block_is_dense(groups, super_channels):
    config = BackboneConfig(groups=groups, super_channels=super_channels)
    if not _condition_can_hold(48 * 6, groups, super_channels):
        with pytest.raises(ValueError, match=r"super[_-]channels"):
            _block(48, config)
        return
    block = _block(48, config)
    paths = _connectivity(block)
    assert paths.min() >= 1
    product = groups[0] * groups[1]
    if super_channels is None and 48 * 6 % product == 0:  # C t / (G1 G2) paths for every pair
        assert (paths == 48 * 6 / product).all()


def test_refused_super_channels_do_break_the_condition():
    config = BackboneConfig(groups=(2, 2), super_channels=2)
    with pytest.raises(ValueError, match="projection group 0 gets nothing of 1 of the 2"):
        _block(48, config)
    broken = _block(48, BackboneConfig(groups=(2, 2), p1=False))
    assert (_connectivity(broken) == 0).float().mean() == 0.5


@pytest.mark.parametrize(
    ("groups", "what"),
    [((5, 2), "G1 must divide the input"), ((2, 7), "expanded"), ((0, 2), "must be >= 1")],
)
def test_groups_that_do_not_divide_are_refused_by_name(groups, what):
    with pytest.raises(ValueError, match=what) as caught:
        _block(48, BackboneConfig(groups=groups))
    assert str(groups) in str(caught.value)


def _block(channels, config, *, expansion=6, out_channels=None):
    block = BlockConfig(
        1,
        out_channels or channels,
        hidden=channels * expansion,
        groups=config.groups,
        super_channels=config.super_channels,
        relu=config.relu,
    )
    norm = norm_layer(config.norm_eps, config.norm_momentum)
    return IGCV3Block(channels, block, stride=1, norm=norm, p1=config.p1, p2=config.p2)


@pytest.mark.parametrize(
    ("relu", "count"), [("depthwise", 34), ("expansion", 34), ("both", 66), ("none", 2)]
)
def test_relu_placement(relu, count):
    network = IGCV3(BackboneConfig(relu=relu))
    assert sum(isinstance(m, nn.ReLU6) for m in network.modules()) == count


def test_p2_restores_the_order_that_g2_interleaves():
    # P2 is the inverse of the g = G2 shuffle; C = 8 gives 0 2 4 6 1 3 5 7
    block = _block(8, BackboneConfig(p2=True), expansion=2)
    x = torch.arange(8.0).reshape(1, 8, 1, 1)
    assert block.p2(x).flatten().tolist() == [0, 2, 4, 6, 1, 3, 5, 7]


@pytest.mark.parametrize("relu", ["depthwise", "both"])
def test_taps_are_those_of_the_forward_pass(relu):
    network = IGCV3(BackboneConfig(width=0.25, relu=relu), 7).eval()
    x = torch.randn(2, 3, 64, 64)
    fine, last = network.forward_features(x)
    assert fine.shape == (2, network.feature_channels[0], 4, 4)
    assert last.shape == (2, network.feature_channels[1], 2, 2)
    assert fine.min() == 0
    assert_close(network.classifier(last.mean((2, 3))), network(x))


def test_full_width_taps():
    network = IGCV3(BackboneConfig(), 0).eval()
    assert network.feature_channels == (576, 1280)
    with torch.no_grad():
        shapes = [tuple(f.shape) for f in network.forward_features(torch.zeros(1, 3, 320, 320))]
    assert shapes == [(1, 576, 20, 20), (1, 1280, 10, 10)]


def test_no_classifier_is_an_error():
    with pytest.raises(ValueError, match="num_classes=0"):
        IGCV3(BackboneConfig(width=0.25), 0)(torch.zeros(1, 3, 32, 32))


def test_every_parameter_learns():
    network = IGCV3(BackboneConfig(width=0.25, depth=0.5), 5)
    network(torch.randn(4, 3, 64, 64)).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        # a normalised expansion bias reaches the loss through zero padding only: tiny, not absent
        assert parameter.grad.abs().sum() > 0 or name.endswith("expand.1.bias"), name


def test_dropout_is_before_the_classifier():
    network = IGCV3(BackboneConfig(width=0.25, dropout=0.5), 5).train()
    assert network.dropout.p == 0.5
