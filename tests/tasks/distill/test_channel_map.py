import numpy as np
import torch
from torch.testing import assert_close

from igcv3det.tasks.distill.channel_map import ChannelMap
from igcv3det.tasks.distill.losses import unexplained_variance


def cells(x):
    return x.permute(0, 2, 3, 1).flatten(0, 2)


def test_it_finds_a_linear_map_and_a_constant():
    torch.manual_seed(0)
    x = torch.randn(4, 3, 5, 5)
    mixing = torch.tensor([[1.0, 2.0], [0.0, -1.0], [3.0, 0.5]])
    target = torch.einsum("bchw,cd->bdhw", x, mixing) + torch.tensor([7.0, -2.0])[:, None, None]
    found = ChannelMap(3, 2)(x, target)
    assert_close(found, target, rtol=0, atol=0.03)  # the ridge shrinks by a thousandth


def test_of_one_batch_it_is_least_squares():
    torch.manual_seed(0)
    x, target = torch.randn(2, 4, 6, 6), torch.randn(2, 3, 6, 6)
    found = ChannelMap(4, 3)(x, target)
    own = np.concatenate([cells(x).numpy(), np.ones((72, 1))], axis=1)
    weight, *_ = np.linalg.lstsq(own, cells(target).numpy(), rcond=None)
    by_numpy = torch.from_numpy(own @ weight).float()
    assert_close(cells(found), by_numpy, rtol=0, atol=2e-3)


def test_many_batches_are_averaged_and_evaluation_learns_nothing():
    torch.manual_seed(0)
    maps, x = ChannelMap(2, 2), torch.randn(8, 2, 4, 4)
    first = maps(x, x)
    maps(x, -x)  # as much for the opposite
    assert_close(maps.weight, torch.zeros(3, 2), rtol=0, atol=1e-5)
    maps.eval()
    before = {name: value.clone() for name, value in maps.state_dict().items()}
    assert_close(maps(x, x), torch.zeros_like(first), rtol=0, atol=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in maps.state_dict().items())


def test_the_gradient_is_that_of_the_best_error():
    # the error after the best map, as a function of x alone, by finite differences in float64
    torch.manual_seed(0)
    x, target = torch.randn(1, 2, 4, 4), torch.randn(1, 2, 4, 4)

    def best_error(values):
        own = np.concatenate([cells(values).double().numpy(), np.ones((16, 1))], axis=1)
        wanted = cells(target).double().numpy()
        left = wanted - own @ np.linalg.lstsq(own, wanted, rcond=None)[0]
        return (left**2).mean(axis=0) @ (1 / wanted.var(axis=0)) / 2

    x.requires_grad_()
    unexplained_variance(ChannelMap(2, 2)(x, target), target).backward()
    for place in ((0, 0, 1, 2), (0, 1, 3, 0)):
        step = torch.zeros_like(x)
        step[place] = 1e-2
        slope = (best_error(x.detach() + step) - best_error(x.detach() - step)) / 2e-2
        assert_close(x.grad[place].item(), slope, rtol=0.05, atol=1e-3)
