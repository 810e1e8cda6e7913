"""Values as they are kept on disk, in float16."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

DTYPE = "<f2"
"""As NumPy spells it in a file."""
_LARGEST = 6e4  # float16 ends at 65504


def to_half(x: Tensor) -> NDArray[np.float16]:
    """A value as it is kept."""
    half: NDArray[np.float16] = x.clamp(-_LARGEST, _LARGEST).half().numpy()
    return half


def from_half(kept: NDArray[np.float16]) -> Tensor:
    """A kept value, float32 in the channels-last layout."""
    x = torch.from_numpy(np.array(kept)).float()
    return x.contiguous(memory_format=torch.channels_last)
