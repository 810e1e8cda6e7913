"""Names of devices."""

from __future__ import annotations

import torch


def existing_device(device: str | torch.device) -> torch.device:
    """The device of a name.

    Args:
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ..., or ``"auto"`` for a GPU if there is one.

    Raises:
        ValueError: this machine does not have it.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"no such device: {device!r}") from error
    if chosen.type not in ("cpu", "cuda"):
        try:
            torch.empty(1, device=chosen).cpu()
        except (RuntimeError, NotImplementedError) as error:
            raise ValueError(f"device {device!r}: not on this machine") from error
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device {device!r}: this machine has {torch.cuda.device_count()} of them")
    return chosen
