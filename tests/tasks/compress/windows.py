"""The windows to which training cuts large maps, against the values of whole maps."""

import numpy as np
import torch

from igcv3det.tasks.compress.parts import IMAGES
from igcv3det.tasks.compress.training import _batch, _inner, _is_cropped


class MemoryFeatures:
    """Values of parts in memory."""

    def __init__(self, found):
        self.count = len(found[IMAGES])
        self._found = {name: value.half().numpy() for name, value in found.items()}

    def read(self, name):
        return self._found[name]


def assert_windows_suffice(parts, found):
    """Every part computes the targets' window from the inputs'; names of parts that are cut."""
    features, random = MemoryFeatures(found), np.random.default_rng(0)
    cropped = []
    for position, part in parts.items():
        inputs, targets = _batch(part, features, random, 1)
        margin = part.margin if _is_cropped(part, features) else 0
        cropped += [position] * (margin > 0)
        with torch.no_grad():
            outputs = part(inputs)
        for name, own in zip(part.outputs, outputs, strict=True):
            assert own.shape == targets[name].shape, position
            scale = float(found[name].abs().mean())
            error = (_inner(own, margin) - _inner(targets[name], margin)).abs().max()
            assert error < 0.05 * scale, position
    return cropped
