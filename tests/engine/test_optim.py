import math

import pytest
import torch
from torch import nn

from igcv3det.config import OptimConfig
from igcv3det.engine.optim import (
    build_optimizer,
    build_schedule,
    lr_factor,
    parameter_groups,
    scaled_lr,
)


def network():
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))


@pytest.mark.parametrize(
    ("config", "batch", "expected"),
    [
        (OptimConfig(lr=0.15, lr_batch_size=192), 192, 0.15),
        (OptimConfig(lr=0.15, lr_batch_size=192), 64, 0.05),
        (OptimConfig(lr=0.15, lr_batch_size=None), 64, 0.15),
    ],
)
def test_rate_scales_with_the_batch(config, batch, expected):
    assert scaled_lr(config, batch) == pytest.approx(expected)


def test_only_weights_of_more_than_one_dimension_decay():
    groups = {g["name"]: g for g in parameter_groups(network(), OptimConfig(weight_decay=0.01))}
    assert [tuple(p.shape) for p in groups["decay"]["params"]] == [(4, 3, 1, 1)]
    assert groups["decay"]["weight_decay"] == 0.01
    assert [tuple(p.shape) for p in groups["no_decay"]["params"]] == [(4,)] * 3
    assert groups["no_decay"]["weight_decay"] == 0


def test_decay_norms_puts_everything_in_one_group():
    (group,) = parameter_groups(network(), OptimConfig(decay_norms=True))
    assert len(group["params"]) == 4


def test_frozen_parameters_are_left_out():
    module = network()
    module[0].requires_grad_(False)
    assert sum(len(g["params"]) for g in parameter_groups(module, OptimConfig())) == 2


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (0, 0.1),  # warm-up start
        (5, 0.55),  # half way up
        (10, 1.0),  # peak
        (55, 0.01 + 0.99 * 0.5),  # half of the cosine
        (100, 0.01),  # end
        (1000, 0.01),  # after the end
    ],
)
def test_curve_by_hand(step, expected):
    config = OptimConfig(warmup_steps=10, warmup_start=0.1, final_lr=0.01)
    assert lr_factor(step, 100, config) == pytest.approx(expected)


def test_warm_up_takes_at_most_half_of_a_short_run():
    config = OptimConfig(warmup_steps=1000, warmup_start=0.001)
    assert lr_factor(5, 10, config) == pytest.approx(1.0)
    assert lr_factor(0, 1, config) == pytest.approx(1.0)


def test_schedule_sets_the_rate_of_every_group():
    config = OptimConfig(lr=0.5, warmup_steps=0)
    optimizer = build_optimizer(network(), config, lr=0.5)
    schedule = build_schedule(optimizer, config, total_steps=4)
    rates = []
    for _ in range(5):
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    expected = [0.25 * (1 + math.cos(math.pi * step / 4)) for step in range(5)]
    for both, rate in zip(rates, expected, strict=True):
        assert both == pytest.approx([rate, rate])


@pytest.mark.parametrize(("name", "kind"), [("sgd", torch.optim.SGD), ("adamw", torch.optim.AdamW)])
def test_kind_of_optimizer(name, kind):
    assert isinstance(build_optimizer(network(), OptimConfig(optimizer=name), 0.1), kind)
