"""Fast depthwise convolutions against PyTorch's own."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from igcv3det.fastpath.depthwise import (
    FastDepthwiseConv2d,
    FastSameDepthwiseConv2d,
    replace_depthwise,
)
from igcv3det.models.layers import conv_norm, norm_layer, set_padding

CHANNELS = 6
NORM = norm_layer(1e-5, 0.1)


def pair(**options):
    """The same convolution twice: PyTorch's, and the fast one."""
    options = {"stride": 2, "padding": 1} | options
    plain = nn.Conv2d(CHANNELS, CHANNELS, 3, groups=CHANNELS, bias=False, **options)
    fast = nn.Sequential(plain)
    replace_depthwise(fast, fast=True)
    return plain, fast[0]


def gradients(conv, images, dtype):
    x = images.to(dtype, copy=True).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        out = conv(x)
    conv.weight.grad = None
    out.float().square().sum().backward()
    return out.detach(), x.grad, conv.weight.grad


@pytest.mark.parametrize("size", [(8, 8), (7, 7), (9, 6), (1, 2)], ids=str)
@pytest.mark.parametrize(
    "options", [{}, {"padding": 0}, {"stride": (1, 2)}, {"stride": 3}], ids=str
)
def test_bfloat16_gradients(size, options):
    plain, fast = pair(**options)
    assert type(fast) is FastDepthwiseConv2d
    if options.get("padding") == 0 and min(size) < 3:
        pytest.skip("the kernel does not fit")
    images = torch.randn(2, CHANNELS, *size)
    expected = gradients(plain, images, torch.float32)
    for own, value in zip(gradients(fast, images, torch.bfloat16), expected, strict=True):
        # eight bits of mantissa, in values and in the terms of their sums
        assert_close(own.float(), value, rtol=0.02, atol=0.05 * float(value.abs().max()))


@pytest.mark.parametrize("size", [(8, 8), (7, 10), (3, 9), (1, 2)], ids=str)
@pytest.mark.parametrize("dilation", [(2, 2), (3, 2)], ids=str)
def test_dilation(size, dilation):
    plain, fast = pair(stride=1, padding=dilation, dilation=dilation)
    assert type(fast) is FastDepthwiseConv2d
    images = torch.randn(2, CHANNELS, *size)
    expected = gradients(plain, images, torch.float32)
    found = gradients(fast, images, torch.float32)
    assert_close(found, expected, rtol=1e-5, atol=1e-5)
    for own, value in zip(gradients(fast, images, torch.bfloat16), expected, strict=True):
        assert_close(own.float(), value, rtol=0.02, atol=0.05 * float(value.abs().max()))


def test_dilation_that_changes_the_size_is_left_alone():
    _, other = pair(stride=1, padding=1, dilation=2)
    assert type(other) is nn.Conv2d


def test_float32_equals_pytorch():
    plain, fast = pair()
    images = torch.randn(2, CHANNELS, 9, 9)
    expected = gradients(plain, images, torch.float32)
    assert_close(gradients(fast, images, torch.float32), expected, rtol=0, atol=0)


def test_a_backward_pass_inside_autocast_rounds_nothing_more():
    _, fast = pair()
    images = torch.randn(2, CHANNELS, 8, 8)
    _, expected, _ = gradients(fast, images, torch.bfloat16)
    x = images.bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        fast(x).float().square().sum().backward()
    assert_close(x.grad, expected, rtol=0, atol=0)


@pytest.mark.parametrize("size", [(2, 2), (1, 1), (2, 7), (1, 3), (7, 2), (4, 4)], ids=str)
@pytest.mark.parametrize("kernel", [(3, 3), (5, 3)], ids=str)
def test_maps_smaller_than_the_kernel(size, kernel):
    padding = (kernel[0] // 2, kernel[1] // 2)
    plain = nn.Conv2d(CHANNELS, CHANNELS, kernel, padding=padding, groups=CHANNELS, bias=False)
    fast = nn.Sequential(plain.double())
    replace_depthwise(fast, fast=True)
    images = torch.randn(2, CHANNELS, *size)
    expected = gradients(plain, images, torch.float64)
    assert_close(gradients(fast[0], images, torch.float64), expected, rtol=1e-12, atol=1e-12)
    fast.float()
    halves = gradients(fast[0], images, torch.bfloat16)
    for own, value in zip(halves, expected, strict=True):
        assert_close(own.double(), value, rtol=0.02, atol=0.05 * float(value.abs().max()))


def test_only_depthwise_convolutions_without_more_are_replaced():
    module = nn.ModuleList(
        [
            conv_norm(4, 4, 3, NORM),
            conv_norm(4, 4, 3, NORM, stride=2, groups=2),
            nn.Conv2d(4, 4, 3, stride=2, groups=4),  # a bias
            nn.Conv2d(4, 4, 3, groups=4, bias=False, dilation=2),
            nn.Conv2d(4, 4, 3, stride=2, groups=4, bias=False, padding_mode="reflect"),
        ]
    )
    before = [type(part) for part in module.modules()]
    replace_depthwise(module, fast=True)
    assert [type(part) for part in module.modules()] == before


@pytest.mark.parametrize("size", [(8, 8), (7, 7), (9, 6), (1, 2), (2, 1)], ids=str)
@pytest.mark.parametrize("options", [{}, {"kernel_size": 5}, {"stride": 3}], ids=str)
def test_bfloat16_gradients_with_sames_padding(size, options):
    options = {"kernel_size": 3, "stride": 2} | options
    plain = conv_norm(CHANNELS, CHANNELS, norm=NORM, groups=CHANNELS, **options)
    set_padding(plain, "same")
    fast = nn.Sequential(plain[0])
    replace_depthwise(fast, fast=True)
    assert type(fast[0]) is FastSameDepthwiseConv2d
    images = torch.randn(2, CHANNELS, *size)
    expected = gradients(plain[0], images, torch.float32)
    for own, value in zip(gradients(fast[0], images, torch.bfloat16), expected, strict=True):
        assert_close(own.float(), value, rtol=0.02, atol=0.05 * float(value.abs().max()))
    assert_close(gradients(fast[0], images, torch.float32), expected, rtol=0, atol=0)


def test_weights_and_random_numbers_stay():
    module = conv_norm(4, 4, 3, NORM, stride=2, groups=4).eval()
    weight, before = module[0].weight, torch.get_rng_state()
    replace_depthwise(module, fast=True)
    assert module[0].weight is weight
    assert not module[0].training
    replace_depthwise(module, fast=False)
    assert type(module[0]) is nn.Conv2d
    assert module[0].weight is weight
    assert_close(torch.get_rng_state(), before)


@pytest.mark.parametrize("padding", ["symmetric", "same"])
@pytest.mark.parametrize("rows", [1, 2, 3])
def test_maps_one_cell_wide_in_the_channels_last_layout(padding, rows):
    channels = 64  # whole registers, as oneDNN's own kernels want them
    network = nn.Sequential(conv_norm(channels, channels, 3, NORM, stride=2, groups=channels))
    set_padding(network, padding)
    replace_depthwise(network, fast=True)
    network.to(memory_format=torch.channels_last)
    conv = network[0][0]
    conv.weight.data = conv.weight.data.bfloat16().float()
    images = torch.randn(4, channels, rows, 1).bfloat16().float()
    images = images.contiguous(memory_format=torch.channels_last)
    double = conv.weight.detach().double().requires_grad_()
    sides = [1, 1, 0, 1] if padding == "same" and rows == 2 else [1, 1, 1, 1]
    out = F.conv2d(F.pad(images.double(), sides), double, stride=2, groups=channels)
    out.square().sum().backward()
    for _ in range(3):
        held = [torch.full((channels, 1, 3, 3), torch.nan) for _ in range(20)]
        del held  # so that what was not written shows
        own = gradients(conv, images, torch.bfloat16)[2]
        assert_close(own.double(), double.grad, rtol=0.03, atol=0.2)
        assert not own[double.grad == 0].any()
