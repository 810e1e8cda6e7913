"""Sequences whose normalisations fold, against PyTorch."""

import copy

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from igcv3det.fastpath.depthwise import replace_depthwise
from igcv3det.fastpath.frozen_norms import FoldingSequential, replace_sequences
from igcv3det.models.layers import conv_norm, norm_layer, set_padding

CHANNELS = 6
NORM = norm_layer(1e-3, 0.1)


def sequence(**options):
    plain = conv_norm(CHANNELS, CHANNELS, norm=NORM, **options)
    norm = plain[1]
    with torch.no_grad():
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
        norm.weight.uniform_(0.5, 2)
        norm.bias.normal_()
    norm.eval()
    return plain


def step(module, images, dtype):
    x = images.to(dtype, copy=True).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        out = module(x)
    weights = torch.linspace(-1, 1, out.numel(), dtype=torch.float64).reshape(out.shape)
    (out * weights).sum().backward()
    gradients = {name: p.grad for name, p in module.named_parameters()}
    return out.detach(), x.grad, gradients


@pytest.mark.parametrize("padding", ["symmetric", "same"])
@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 1},
        {"kernel_size": 1, "groups": 2},
        {"kernel_size": 3, "stride": 2},
        {"kernel_size": 3, "groups": CHANNELS},
        {"kernel_size": 3, "groups": CHANNELS, "stride": 2},
    ],
    ids=str,
)
@pytest.mark.parametrize("size", [(8, 8), (7, 6), (2, 2)], ids=str)
def test_outputs_and_gradients(options, padding, size):
    parent = nn.ModuleDict({"part": sequence(**options).double()})
    set_padding(parent, padding)
    plain = copy.deepcopy(parent["part"])
    replace_depthwise(parent, fast=True)
    replace_sequences(parent, fast=True)
    folding = parent["part"]
    assert type(folding) is FoldingSequential
    images = torch.randn(2, CHANNELS, *size)
    expected = step(plain, images, torch.float64)
    assert_close(step(folding, images, torch.float64), expected, rtol=1e-10, atol=1e-12)
    parent.float().zero_grad()
    out, to_x, gradients = step(folding, images, torch.bfloat16)
    pairs = [(out, expected[0]), (to_x, expected[1])]
    pairs += [(gradients[name], value) for name, value in expected[2].items()]
    for own, value in pairs:  # eight bits of mantissa, in values and in the terms of their sums
        assert_close(own.double(), value, rtol=0.03, atol=0.06 * float(value.abs().max()))


def test_a_norm_that_learns_its_statistics_is_not_folded():
    parent = nn.ModuleDict({"part": sequence(kernel_size=1)})
    plain = copy.deepcopy(parent["part"]).train()
    replace_sequences(parent, fast=True)
    parent["part"].train()
    images = torch.randn(2, CHANNELS, 4, 4)
    assert_close(parent["part"](images), plain(images), rtol=0, atol=0)
    assert_close(parent["part"].state_dict(), plain.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize(
    "part",
    [
        nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)),  # a bias of its own
        nn.Sequential(nn.Conv2d(4, 4, 1, bias=False), nn.BatchNorm2d(4, affine=False)),
        nn.Sequential(nn.Conv2d(4, 4, 1, bias=False), nn.BatchNorm2d(4, track_running_stats=False)),
        nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1, bias=False)),
    ],
    ids=["bias", "no scale", "no statistics", "norm first"],
)
def test_sequences_that_cannot_fold_stay(part):
    parent = nn.ModuleDict({"part": part})
    replace_sequences(parent, fast=True)
    assert parent["part"] is part


def test_restoring():
    parent = nn.ModuleDict({"part": sequence(kernel_size=3, groups=CHANNELS, stride=2)})
    names, before = list(parent.state_dict()), str(parent)
    replace_sequences(parent, fast=True)
    replace_sequences(parent, fast=True)  # again: nothing is wrapped twice
    assert list(parent.state_dict()) == names
    assert type(parent["part"].source) is nn.Sequential
    twin = copy.deepcopy(parent)
    twin["part"][1].weight.data.zero_()
    assert not torch.equal(twin["part"][1].weight, parent["part"][1].weight)
    replace_depthwise(parent, fast=True)
    parent["part"].eval()
    replace_depthwise(parent, fast=False)
    replace_sequences(parent, fast=False)
    assert str(parent) == before
    assert not any(part.training for part in parent["part"].modules())
