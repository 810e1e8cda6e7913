"""IGCV2: branches, the complementary condition, counts, learning."""

import itertools

import pytest
import torch
from torch import nn

from igcv3det.measure.complexity import count_multiply_adds, count_parameters
from igcv3det.models.connectivity import path_counts
from igcv3det.models.igcv2 import IGCV2, IGCV2Config, InterleavedPointwise, branch_sizes


@pytest.mark.parametrize(
    ("channels", "layers", "sizes"),
    [
        (64, 2, (8, 8)),
        (64, 3, (4, 4, 4)),
        (64, 6, (2,) * 6),
        (96, 2, (8, 12)),
        (576, 2, (24, 24)),
        (896, 3, (8, 8, 14)),
        (7, 1, (7,)),
    ],
)
def test_balanced_branches(channels, layers, sizes):
    # the balance condition, IGCV2 section 3.3: the least sum of factors whose product is C
    assert branch_sizes(channels, None, layers) == sizes


@pytest.mark.parametrize(
    ("channels", "branch", "sizes"), [(64, 8, (8, 8)), (72, 8, (8, 8, 8)), (8, 8, (8,))]
)
def test_equal_branches_as_many_as_needed(channels, branch, sizes):
    # L = ceil(log_K C) + 1 with the depthwise convolution
    assert branch_sizes(channels, branch, None) == sizes


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((64, None, None), "branch size or a number of layers"),
        ((7, None, 2), "7 channels have no 2 factors"),
        ((60, 8, None), "branch=8 must be >= 2 and divide 60"),
        ((64, 1, None), "branch=1"),
    ],
)
def test_impossible_branches(given, message):
    with pytest.raises(ValueError, match=message):
        branch_sizes(*given)


@pytest.mark.parametrize("widening", [1, 2, 3])
@pytest.mark.parametrize(
    ("channels", "layers"), [(c, n) for c in (16, 24, 64, 72, 90) for n in (1, 2, 3)]
)
def test_balanced_branches_make_exactly_one_path(channels, layers, widening):
    sizes = branch_sizes(channels, None, layers)
    counts = path_counts(InterleavedPointwise(channels, channels * widening, sizes))
    assert counts.shape == (channels * widening, channels)
    assert (counts == 1).all()


@pytest.mark.parametrize("sizes", list(itertools.product((2, 3, 4, 6), repeat=3)), ids=str)
def test_accepted_branches_are_dense_and_refused_ones_are_not(sizes):
    """Also where the product of the sizes is more or less than C, and where their order matters."""
    if _by_hand(24, sizes) < 24:
        with pytest.raises(ValueError, match="unconnected"):
            InterleavedPointwise(24, 24, sizes)
    else:
        assert (path_counts(InterleavedPointwise(24, 24, sizes)) >= 1).all()


def _by_hand(channels, sizes):
    """How many channels the first, at worst, reaches: sets of numbers instead of matrices."""
    reached = [{c} for c in range(channels)]
    for index, size in enumerate(sizes):
        if index:
            groups = channels // sizes[index - 1]
            order = [
                j * (channels // groups) + k
                for k in range(channels // groups)
                for j in range(groups)
            ]
            reached = [reached[place] for place in order]
        mixed = [set().union(*reached[s : s + size]) for s in range(0, channels, size)]
        reached = [mixed[c // size] for c in range(channels)]
    return min(len(inputs) for inputs in reached)


def test_too_few_layers_are_refused():
    with pytest.raises(ValueError, match="complementary condition"):
        IGCV2(IGCV2Config(channels=64, branch=4, layers=2))


def test_counts_by_arithmetic():
    """16 channels, one block a stage, K = 4 in two layers (16, then 32 channels: 4 and 8)."""
    network = IGCV2(IGCV2Config(channels=16, blocks=1, branch=None, layers=2), 10)
    conv = 27 * 16  # the stem
    conv += (9 * 16 + 16 * 4 + 16 * 4) + (9 * 16 + 32 * 4 + 32 * 4) + (9 * 32 + 64 * 4 + 64 * 8)
    norms = 2 * (16 + (16 * 3) + (16 + 32 * 2) + (32 + 64 * 2))
    assert count_parameters(network) == conv + norms + 64 * 10 + 10
    adds = 1024 * (27 * 16 + 9 * 16 + 2 * 64) + 256 * (9 * 16 + 2 * 128)
    adds += 64 * (9 * 32 + 256 + 512) + 640
    assert count_multiply_adds(network, (1, 3, 32, 32)) == adds


@pytest.mark.parametrize("classes", [10, 100])
def test_the_default_has_the_papers_parameters(classes):
    # 2.4 M for both data sets, README of github.com/homles11/IGCV3
    count = count_parameters(IGCV2(IGCV2Config(), classes))
    assert count == {10: 2_259_082, 100: 2_466_532}[classes]
    assert abs(count / 2.4e6 - 1) < 0.1


def test_one_relu_a_block():
    network = IGCV2(IGCV2Config(channels=16, blocks=2, branch=4, layers=None))
    assert sum(isinstance(part, nn.ReLU) for part in network.modules()) == 1 + 6


def test_every_parameter_learns():
    network = IGCV2(IGCV2Config(channels=16, blocks=2, branch=None, layers=2), 5)
    network(torch.randn(4, 3, 16, 16)).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channels": 0}, "channels"),
        ({"blocks": 0}, "blocks"),
        ({"strides": (1, 2)}, "strides"),
        ({"dropout": 1.0}, "dropout"),
    ],
)
def test_ranges(changes, message):
    with pytest.raises(ValueError, match=f"igcv2.{message}"):
        IGCV2Config(**changes)
