"""Trainings that are killed before a step, compared with uninterrupted ones."""

from contextlib import contextmanager
from unittest.mock import patch

import pytest
import torch


class KillError(BaseException):
    """Stands for the kill; commands report exceptions, so it is none of them."""


@contextmanager
def killed_at(module, step):
    """In this block training raises in front of an optimizer step, and must.

    Args:
        module: class of the Lightning module that trains.
        step: number of the optimizer step that is not taken.
    """
    training_step = module.training_step

    def deadly(self, batch, batch_idx):
        if self.global_step == step:
            raise KillError
        return training_step(self, batch, batch_idx)

    with patch.object(module, "training_step", deadly), pytest.raises(KillError):
        yield


def assert_same(one, other, where=""):
    """Bitwise equality of nested containers."""
    assert type(one) is type(other), where
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            assert_same(one[key], other[key], f"{where}/{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for index, pair in enumerate(zip(one, other, strict=True)):
            assert_same(*pair, f"{where}/{index}")
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other), where
    else:
        assert one == other, where
