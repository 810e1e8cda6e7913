"""The faster implementations against the reference: outputs, gradients, statistics, names."""

import copy
import dataclasses

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from igcv3det.config import BackboneConfig
from igcv3det.fastpath.conv_impl import AbsorbedPermutation, RemappedConvNorm, set_conv_impl
from igcv3det.fastpath.depthwise import FastDepthwiseConv2d
from igcv3det.fastpath.frozen_norms import FoldingSequential
from igcv3det.models.igcv3 import CIFAR_STRIDES, IGCV3
from igcv3det.models.mobilenetv2 import mobilenet_v2

NARROW = BackboneConfig(width=0.5, depth=0.2)
CONFIGS = {
    **{
        f"{g1}-{g2}{'-p2' if p2 else ''}": dataclasses.replace(NARROW, groups=(g1, g2), p2=p2)
        for g1 in (1, 2, 4)
        for g2 in (1, 2, 4)
        for p2 in (False, True)
    },
    "no-p1": dataclasses.replace(NARROW, p1=False),
    "super-channels": dataclasses.replace(NARROW, super_channels=8),
    "uneven": BackboneConfig(width=0.75, depth=0.2, super_channels=6),
    "relu-both": dataclasses.replace(NARROW, relu="both"),
    "released-widths": BackboneConfig(depth=0.2),  # wide enough for grouped variants
}


def network(config):
    # float64, as a batch of few pixels amplifies rounding in the gradients of normalisation
    return IGCV3(config, 5, strides=CIFAR_STRIDES).double()


def step(module, images):
    """Outputs and gradients of one training step on classifier and taps."""
    logits, taps = module(images), module.forward_features(images)
    sum(part.square().sum() for part in (logits, *taps)).backward()
    return [logits, *taps], {name: p.grad for name, p in module.named_parameters()}


def named_norms(module):
    return [(n, part) for n, part in module.named_modules() if isinstance(part, nn.BatchNorm2d)]


def norms_of(module):
    return [norm for _, norm in named_norms(module)]


@pytest.mark.parametrize("config", CONFIGS)
def test_a_training_step_is_the_same(config):
    reference = network(CONFIGS[config])
    others = {conv_impl: copy.deepcopy(reference) for conv_impl in ("fast", "folded")}
    images = torch.randn(3, 3, 16, 16, dtype=torch.float64)
    expected = step(reference, images)
    with torch.no_grad():
        logits = copy.deepcopy(reference).eval()(images)
    for conv_impl, other in others.items():
        set_conv_impl(other, conv_impl)
        assert_close(step(other, images), expected, rtol=1e-8, atol=1e-10)
        # running statistics too
        assert_close(dict(other.state_dict()), dict(reference.state_dict()))
        with torch.no_grad():
            assert_close(other.eval()(images), logits)


@pytest.mark.parametrize("config", CONFIGS)
def test_frozen_norms_learn_the_same(config):
    reference = network(CONFIGS[config])
    with torch.no_grad():
        for norm in norms_of(reference):
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
            norm.weight.uniform_(0.5, 2)
            norm.bias.normal_()
            norm.eval()
    fast = copy.deepcopy(reference)
    set_conv_impl(fast, "fast")
    images = torch.randn(3, 3, 16, 16, dtype=torch.float64)
    assert_close(step(fast, images), step(reference, images), rtol=1e-8, atol=1e-10)
    assert_close(dict(fast.state_dict()), dict(reference.state_dict()))


def test_only_frozen_norms_are_folded():
    reference = network(NARROW)
    reference.stem[1].eval()
    fast = copy.deepcopy(reference)
    set_conv_impl(fast, "fast")
    images = torch.randn(3, 3, 16, 16, dtype=torch.float64)
    assert_close(step(fast, images), step(reference, images), rtol=1e-8, atol=1e-10)
    counts = {name: int(part.num_batches_tracked) for name, part in named_norms(fast)}
    assert counts.pop("stem.1") == 0
    assert set(counts.values()) == {2}  # a step runs the network twice


def test_float32_to_five_digits():
    reference = IGCV3(BackboneConfig(depth=0.2), 5, strides=CIFAR_STRIDES).eval()
    fast = copy.deepcopy(reference)
    set_conv_impl(fast, "fast")
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert_close(fast(images), reference(images), rtol=1e-5, atol=1e-5)


def test_state_dicts_fit_both_ways_in_the_same_order():
    reference, fast = network(NARROW), network(NARROW)
    parameters = [id(parameter) for parameter in fast.parameters()]
    set_conv_impl(fast, "fast")
    assert list(fast.state_dict()) == list(reference.state_dict())
    assert [id(parameter) for parameter in fast.parameters()] == parameters  # an optimizer's order
    fast.load_state_dict(reference.state_dict())
    reference.load_state_dict(fast.state_dict())


def test_restoring():
    fast = network(NARROW)
    before = str(fast)
    set_conv_impl(fast, "fast")
    assert any(isinstance(part, RemappedConvNorm) for part in fast.modules())
    assert str(fast) != before
    set_conv_impl(fast, "fast")  # again: nothing is wrapped twice
    parts = [p for p in fast.modules() if isinstance(p, AbsorbedPermutation)]
    assert not any(isinstance(part.permutation, AbsorbedPermutation) for part in parts)
    set_conv_impl(fast, "reference")
    assert str(fast) == before


def test_modes_are_kept():
    fast = network(NARROW).eval()
    set_conv_impl(fast, "fast")
    assert not any(part.training for part in fast.modules())
    fast.train()
    fast.blocks[0].depthwise[1].eval()  # a frozen norm
    set_conv_impl(fast, "fast")
    assert [name for name, part in fast.named_modules() if not part.training] == [
        "blocks.0.depthwise.1"
    ]


def test_other_networks_are_sped_up_too():
    baseline = mobilenet_v2(3, width=0.25)
    reference, before = copy.deepcopy(baseline), str(baseline)
    set_conv_impl(baseline, "fast")
    fast = [part for part in baseline.modules() if isinstance(part, FastDepthwiseConv2d)]
    assert len(fast) == 17  # one a block
    assert sum(isinstance(part, FoldingSequential) for part in baseline.modules()) > 17
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert_close(baseline.eval()(images), reference.eval()(images), rtol=1e-4, atol=1e-5)
    set_conv_impl(baseline.train(), "reference")
    assert str(baseline) == before


def test_bfloat16_statistics_stay_in_float32():
    fast = IGCV3(NARROW, 5, strides=CIFAR_STRIDES)
    set_conv_impl(fast, "fast")
    with torch.autocast("cpu", torch.bfloat16):
        fast(torch.randn(2, 3, 32, 32)).float().sum().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in fast.parameters())
    norms = norms_of(fast)
    assert {norm.running_var.dtype for norm in norms} == {torch.float32}
    assert {int(norm.num_batches_tracked) for norm in norms} == {1}
