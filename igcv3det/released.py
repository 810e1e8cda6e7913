"""The weights that come with the package: where they are, and what is said of them.

Trained as ``docs/weights.md`` tells. The file describes itself; among its metadata are ``status``
("preview" while it is well below its teacher), ``figures`` and ``weights_sha256``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from igcv3det.checkpoint import load_detector, read_metadata
from igcv3det.detector import SSDLite

RELEASED = Path(__file__).parent / "weights" / "igcv3_d_ssdlite.safetensors"
CHECKSUM, STATUS, FIGURES = "weights_sha256", "status", "figures"


def load_released() -> SSDLite:
    """The released detector: IGCV3-D + SSDLite, COCO's 80 classes, in evaluation mode.

    Raises:
        FileNotFoundError: the package was installed without its weights.
        ValueError: the file is not the one that was released.
    """
    detector = load_detector(RELEASED)
    expected, found = read_metadata(RELEASED).get(CHECKSUM), checksum(half_weights(detector))
    if found != expected:
        raise ValueError(f"{RELEASED}: damaged: {CHECKSUM} is {found}, not {expected}")
    return detector


def half_weights(detector: SSDLite) -> dict[str, Tensor]:
    """The weights as a released file has them: float16, counters as they are."""
    return {
        name: value.half() if value.is_floating_point() else value
        for name, value in detector.state_dict().items()
    }


def released_notice() -> str | None:
    """One line for the user while the weights are a preview; None otherwise."""
    facts = read_metadata(RELEASED)
    if facts.get(STATUS) != "preview":
        return None
    return f"released weights are a preview ({facts.get(FIGURES, 'not measured')})"


def checksum(weights: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes of all tensors, in the order of their names."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].contiguous().cpu()
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
