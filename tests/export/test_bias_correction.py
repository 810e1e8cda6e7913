"""Biases after the correction for 8-bit weights."""

import numpy as np
import torch
from torch import nn

from igcv3det.export.bias_correction import correct_biases


def test_a_bias_makes_up_for_a_rounded_weight():
    conv = nn.Conv2d(2, 1, 1)
    with torch.no_grad():
        conv.weight.copy_(torch.tensor([127, 0.4]).reshape(1, 2, 1, 1))  # the step is 1
        conv.bias.fill_(1)
    # the mean of the second channel over both images is 3, and 0.4 is rounded to 0
    images = [np.full((1, 2, 4, 4), value, dtype=np.float32) for value in (2, 4)]
    network = nn.Sequential(conv).requires_grad_(False).eval()
    correct_biases(network, images)
    torch.testing.assert_close(conv.bias, torch.tensor([1 + 0.4 * 3]))
    torch.testing.assert_close(conv.weight.flatten(), torch.tensor([127, 0.4]))
    assert not conv.bias.requires_grad
    assert not network[0]._forward_pre_hooks


def test_a_convolution_without_a_bias_gets_one():
    conv = nn.Conv2d(1, 2, 1, bias=False)
    with torch.no_grad():
        conv.weight.copy_(torch.tensor([0.0, 127]).reshape(2, 1, 1, 1))  # nothing to round
    correct_biases(nn.Sequential(conv), [np.ones((1, 1, 2, 2), dtype=np.float32)])
    assert conv.bias.tolist() == [0, 0]
