import copy

import pytest
import torch
from torch import nn

from igcv3det.engine.ema import WeightAverage


def network():
    return nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))


def test_decay_ramps_up_to_its_limit():
    average = WeightAverage(network(), decay=0.5)
    decays = []
    for _ in range(10):
        decays.append(average.decay)
        average.update()
    assert decays[:3] == pytest.approx([1 / 10, 2 / 11, 3 / 12])
    assert decays[-1] == 0.5  # (1 + 9) / (10 + 9) is above


def test_average_by_hand():
    module = network()
    average = WeightAverage(module, decay=0.9)
    start = module[0].weight.detach().clone()
    with torch.no_grad():
        module[0].weight.copy_(start + 1)
        average.update()  # decay 1/10: 0.1 * start + 0.9 * (start + 1)
        module[0].weight.copy_(start + 2)
        average.update()  # decay 2/11
    expected = start + 2 / 11 * 0.9 + 9 / 11 * 2
    torch.testing.assert_close(average.state_dict()["0.weight"], expected)


def test_statistics_are_averaged_and_counters_copied():
    module = network()
    average = WeightAverage(module, decay=0.9)
    module[1].running_mean.fill_(1.0)
    module[1].num_batches_tracked.fill_(7)
    average.update()
    kept = average.state_dict()
    torch.testing.assert_close(kept["1.running_mean"], torch.full((2,), 0.9))
    assert kept["1.num_batches_tracked"].item() == 7


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_long_average_of_low_precision_weights_moves(dtype):
    """1.0, then 1.25 for many steps: the average is known in closed form."""
    module = nn.Linear(1, 1, dtype=dtype)
    with torch.no_grad():
        module.weight.fill_(1.0)
        average = WeightAverage(module, decay=0.9998)
        average.updates = 10**6  # past the ramp
        module.weight.fill_(1.25)
        for _ in range(500):
            average.update()
        expected = 1.25 - 0.25 * 0.9998**500
        assert average.state_dict()["weight"].item() == pytest.approx(expected, abs=1e-5)
        average.swap()
        assert module.weight.item() == pytest.approx(expected, abs=2**-8)  # rounded to the dtype
        average.swap()
        assert module.weight.item() == 1.25
        assert average.state_dict()["weight"].item() == pytest.approx(expected, abs=1e-5)


def test_swap_twice_changes_nothing():
    module = network()
    average = WeightAverage(module, decay=0.9)
    with torch.no_grad():
        module[0].weight.add_(1)
    average.update()
    raw, averaged = copy.deepcopy((module.state_dict(), average.state_dict()))
    average.swap()
    for name, value in module.state_dict().items():
        assert torch.equal(value, averaged[name])
    average.swap()
    for name, value in module.state_dict().items():
        assert torch.equal(value, raw[name])
        assert torch.equal(average.state_dict()[name], averaged[name])


def test_continues_where_it_was():
    module = network()
    average = WeightAverage(module, decay=0.9)
    average.update()
    other = WeightAverage(module, decay=0.9)
    other.load(copy.deepcopy(average.state_dict()), updates=1)
    with torch.no_grad():
        module[0].weight.add_(1)
    average.update()
    other.update()
    assert other.updates == 2
    for name, value in average.state_dict().items():
        assert torch.equal(other.state_dict()[name], value)


def test_names_must_fit():
    average = WeightAverage(network(), decay=0.9)
    with pytest.raises(ValueError, match=r"do not fit.*0\.weight"):
        average.load({}, updates=1)
