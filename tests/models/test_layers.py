"""Permutation and padding, against hand arithmetic."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from igcv3det.models.layers import ChannelPermutation, SameConv2d, set_padding


def _permuted(channels, groups, super_channels, memory_format):
    x = torch.arange(channels, dtype=torch.float32).reshape(1, channels, 1, 1)
    x = x.expand(1, channels, 2, 3).contiguous(memory_format=memory_format)
    y = ChannelPermutation(channels, groups, super_channels)(x)
    assert y.is_contiguous(memory_format=memory_format)
    assert torch.equal(y, y[:, :, :1, :1].expand_as(y))
    return y[0, :, 0, 0].int().tolist()


def test_an_exported_permutation_takes_any_batch():
    layer = ChannelPermutation(8, 2)
    shapes = ({0: torch.export.Dim("batch")},)
    program = torch.export.export(layer, (torch.randn(2, 8, 3, 3),), dynamic_shapes=shapes)
    x = torch.randn(5, 8, 3, 3)
    assert torch.equal(program.module()(x), layer(x))


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize(
    ("channels", "groups", "super_channels", "expected"),
    [
        # C=8, g=2 gives 0 4 1 5 2 6 3 7, and g=C/2 undoes it
        pytest.param(8, 2, None, [0, 4, 1, 5, 2, 6, 3, 7], id="released-p1"),
        pytest.param(8, 4, None, [0, 2, 4, 6, 1, 3, 5, 7], id="released-p2"),
        pytest.param(8, 2, 4, [0, 1, 4, 5, 2, 3, 6, 7], id="swap-of-middle-quarters"),
        pytest.param(6, 3, None, [0, 2, 4, 1, 3, 5], id="three-groups"),
        pytest.param(4, 1, None, [0, 1, 2, 3], id="one-group"),
    ],
)
def test_permutation_by_hand(channels, groups, super_channels, expected, memory_format):
    assert _permuted(channels, groups, super_channels, memory_format) == expected
    assert ChannelPermutation(channels, groups, super_channels).index.tolist() == expected


@pytest.mark.parametrize(("groups", "super_channels"), [(2, None), (4, None), (2, 4), (3, 6)])
def test_inverse_undoes_the_permutation(groups, super_channels):
    permutation = ChannelPermutation(24, groups, super_channels)
    x = torch.randn(2, 24, 3, 5)
    assert_close(permutation.inverse()(permutation(x)), x, rtol=0, atol=0)


def test_permutation_refuses_pieces_that_do_not_fit():
    with pytest.raises(ValueError, match="super_channels=5 must divide the 8 channels"):
        ChannelPermutation(8, 2, 5)
    with pytest.raises(ValueError, match="groups=3 must divide the 8 super-channels"):
        ChannelPermutation(8, 3)


@pytest.mark.parametrize(
    ("side", "expected"),
    [
        # kernel of ones, stride 2, input 1, 2, ..: the sums under each window, counted by hand.
        # side 4: windows start at 0 and 2, one zero at the end
        pytest.param(4, [1 + 2 + 3, 3 + 4], id="even"),
        # side 5: windows start at -1, 1, 3, a zero at each end
        pytest.param(5, [1 + 2, 2 + 3 + 4, 4 + 5], id="odd"),
        pytest.param(1, [1], id="one-pixel"),
        pytest.param(2, [1 + 2], id="two-pixels"),
    ],
)
def test_same_padding_by_hand(side, expected):
    conv = SameConv2d(1, 1, (3, 3), stride=(2, 2), bias=False)
    conv.weight.data.zero_()
    conv.weight.data[..., 1, :] = 1  # only the middle row, so the sums are one-dimensional
    column = torch.ones(side)[:, None] * torch.arange(1.0, side + 1)
    out = conv(column[None, None])
    # a window's middle row is row 1 of the padded image: real for both parities
    assert_close(out[0, 0, 0], torch.tensor(expected, dtype=torch.float32))
    assert out.shape[2:] == (len(expected), len(expected))


def test_set_padding_changes_strided_convolutions_only_and_keeps_names():
    def build():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.Sequential(nn.Conv2d(4, 4, 3, padding=1))
        )

    plain, same = build(), build()
    set_padding(same, "same")
    assert isinstance(same[0], SameConv2d)
    assert not isinstance(same[1][0], SameConv2d)
    same.load_state_dict(plain.state_dict())
    x = torch.randn(1, 3, 9, 9)
    assert_close(same(x), plain(x))  # odd sides: both pad one pixel on each side
    x = torch.randn(1, 3, 8, 8)
    shifted = nn.functional.pad(x, (0, 1, 0, 1))
    unpadded = nn.functional.conv2d(shifted, plain[0].weight, plain[0].bias, stride=2)
    assert_close(same[0](x), unpadded)
