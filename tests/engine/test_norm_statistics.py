"""Restored statistics: the same outputs in evaluation and in training mode."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from igcv3det.engine.norm_statistics import restore_statistics


@pytest.fixture
def network():
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4, eps=1e-3),
        nn.ReLU6(),
        nn.Conv2d(4, 2, 1),
        nn.BatchNorm2d(2),
    )
    for norm in (network[1], network[4]):
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    return network.eval()


def test_the_outputs_do_not_change(network):
    images = torch.randn(6, 3, 9, 9)
    expected = network(images)
    assert restore_statistics(network, [network[1], network[4]], images.split(4)) == 6
    assert not network.training
    assert_close(network(images), expected)


def test_statistics_are_those_of_the_inputs(network):
    images = 5 + torch.randn(6, 3, 9, 9)
    values = network[0](images).transpose(0, 1).flatten(1)
    restore_statistics(network, [network[1]], images.split(1))
    assert_close(network[1].running_mean, values.mean(1))
    assert_close(network[1].running_var, values.var(1, correction=0))
    assert_close(network[4].running_mean, torch.zeros(2))  # not in the list


def test_training_mode_gives_the_same_outputs(network):
    images = torch.randn(8, 3, 9, 9)
    expected = network(images)
    restore_statistics(network, [network[1], network[4]], [images])
    assert_close(network.train()(images), expected, atol=1e-5, rtol=1e-4)


def test_a_dead_channel_stays_finite(network):
    nn.init.zeros_(network[0].weight)
    expected = network(torch.zeros(1, 3, 9, 9))
    restore_statistics(network, [network[1], network[4]], [torch.randn(2, 3, 9, 9)])
    assert_close(network(torch.zeros(1, 3, 9, 9)), expected)


def test_a_norm_that_does_not_run_stays(network):
    unused = nn.BatchNorm2d(3)
    restore_statistics(network, [network[1], unused], [torch.randn(2, 3, 9, 9)])
    assert_close(unused.running_mean, torch.zeros(3))
    assert_close(unused.weight, torch.ones(3))


def test_no_images_is_an_error(network):
    with pytest.raises(ValueError, match="statistics need images"):
        restore_statistics(network, [network[1]], [])
