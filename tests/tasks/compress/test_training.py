"""What the training of a replacement minimises."""

import numpy as np
import pytest
import torch
from tasks.compress.networks import MOBILENETV2, SIZE, teacher_of
from torch.testing import assert_close

pytest.importorskip("scipy")
from igcv3det.tasks.compress.parts import IMAGES, TAP, run_parts
from igcv3det.tasks.compress.start import start_candidate
from igcv3det.tasks.compress.training import PartTraining, train_part


class _Store:
    def __init__(self, values):
        self.count, self._values = len(values[IMAGES]), values

    def read(self, name):
        return self._values[name].numpy().astype(np.float16)


def test_the_loss_compares_the_fine_map_in_the_order_of_the_heads():
    """Its Fisher information is in that order; a grouped block has the channels in another one."""
    teacher = teacher_of(MOBILENETV2)
    parts = teacher.parts()
    pixels = torch.randn(24, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = run_parts(parts, {IMAGES: pixels})
    position = next(key for key, part in parts.items() if TAP in part.outputs)
    (candidate,) = (c for c in teacher.candidates()[position] if c.name == "groups 2x2")
    metrics = {key: torch.eye(value.shape[1]) for key, value in found.items()}
    replacement = start_candidate(candidate, teacher, found[parts[position].reads], metrics)
    assert replacement.tap_order is not None
    assert replacement.tap_order.tolist() != list(range(found[TAP].shape[1]))
    seen = {}

    def loss(name, own, value):
        seen[name] = own.detach(), value
        return (own - value).square().mean()

    train_part(replacement, loss, _Store(found), PartTraining(steps=1))
    own, value = seen[TAP]
    assert_close(value, found[TAP], rtol=1e-3, atol=1e-3)  # stored as float16
    assert float((own - value).square().mean()) < 0.05 * float(value.var(dim=(0, 2, 3)).mean())
