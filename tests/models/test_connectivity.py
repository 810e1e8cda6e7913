"""Path counts of small chains, by hand."""

import pytest
import torch
from torch import nn

from igcv3det.models.connectivity import path_counts
from igcv3det.models.layers import ChannelPermutation, conv_norm, norm_layer

NORM = norm_layer(1e-5, 0.1)


def test_grouped_convolutions_without_and_with_a_permutation():
    one, two = nn.Conv2d(4, 4, 1, groups=2), nn.Conv2d(4, 2, 1, groups=2)
    assert path_counts([one, two]).tolist() == [[2, 2, 0, 0], [0, 0, 2, 2]]
    # A0 A1 B0 B1 becomes A0 B0 A1 B1: each half of the second sees one channel of each branch
    assert path_counts([one, ChannelPermutation(4, 2), two]).tolist() == [[1] * 4, [1] * 4]


def test_a_permutation_moves_rows():
    counts = path_counts([ChannelPermutation(4, 2), nn.Conv2d(4, 4, 3, groups=4)])
    assert counts.nonzero().tolist() == [[0, 0], [1, 2], [2, 1], [3, 3]]


def test_depthwise_norms_and_activations_change_nothing():
    parts = [nn.Sequential(conv_norm(4, 4, 3, NORM, groups=4, relu=True), nn.Identity())]
    assert torch.equal(path_counts(parts), torch.eye(4))


def test_dense_convolutions_multiply():
    assert (path_counts([nn.Conv2d(3, 5, 1), nn.Conv2d(5, 2, 1)]) == 5).all()


def test_unknown_layers_are_refused():
    with pytest.raises(ValueError, match="Linear"):
        path_counts([nn.Linear(2, 2)])
    with pytest.raises(ValueError, match="no convolutions"):
        path_counts([])
