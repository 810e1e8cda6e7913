"""Schedules against PyTorch's schedulers, and by hand."""

import pytest
import torch
from torch.optim.lr_scheduler import ExponentialLR, MultiStepLR

from igcv3det.config import OptimConfig
from igcv3det.tasks.classify.config import ScheduleConfig
from igcv3det.tasks.classify.schedule import build_rate_schedule, rate_factor

NO_WARMUP = OptimConfig(warmup_steps=0)


def optimizer():
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)


@pytest.mark.parametrize(
    ("config", "oracle"),
    [
        (
            ScheduleConfig(curve="steps", milestones=(2, 3, 5), factor=0.1),
            lambda own: MultiStepLR(own, [2, 3, 5], 0.1),
        ),
        (
            ScheduleConfig(curve="exponential", factor=0.98),
            lambda own: ExponentialLR(own, 0.98),
        ),
    ],
    ids=["steps", "exponential"],
)
def test_it_agrees_with_pytorch(config, oracle):
    own, other = optimizer(), optimizer()
    schedule, expected = build_rate_schedule(own, 28, 4, NO_WARMUP, config), oracle(other)
    for _ in range(7):
        for _ in range(4):
            rate = expected.get_last_lr()[0]
            assert schedule.get_last_lr()[0] == pytest.approx(rate)
            own.step()
            schedule.step()
        other.step()
        expected.step()


def test_one_cycle_by_hand():
    optim = OptimConfig(warmup_steps=4, warmup_start=0.2, final_lr=0.0)
    cycle = [rate_factor(step, 12, 4, optim, ScheduleConfig()) for step in (0, 2, 4, 8, 12)]
    assert cycle == pytest.approx([0.2, 0.6, 1.0, 0.5, 0.0])


def test_milestones_follow_the_warm_up():
    optim = OptimConfig(warmup_steps=2, warmup_start=0.5)
    config = ScheduleConfig(curve="steps", milestones=(1,))
    rates = [rate_factor(step, 12, 4, optim, config) for step in (0, 1, 2, 3, 4)]
    assert rates == pytest.approx([0.5, 0.75, 1.0, 1.0, 0.1])
