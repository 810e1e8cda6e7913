"""The two files of a trained candidate: what it is worth, and its weights."""

from __future__ import annotations

import math
from pathlib import Path

from igcv3det.tasks.compress.candidates import Candidate
from igcv3det.tasks.compress.work_folder import WorkFolder, damaged, read_mapping
from igcv3det.weight_files import read_metadata


def weights_file(work: Path, candidate: Candidate) -> Path:
    """The weights of a trained candidate; its loss is beside them, as JSON."""
    return work / "candidates" / f"{candidate.key}.safetensors"


def recorded_loss(folder: WorkFolder, candidate: Candidate) -> float | None:
    """What a candidate that was trained before is worth.

    Returns:
        Divergence of the outputs, nats for an image; NaN where its training failed, None where
        nothing is known of it.

    Raises:
        ValueError: the file is damaged; the message names it.
    """
    path = weights_file(folder.path, candidate).with_suffix(".json")
    if not path.is_file():
        return None
    loss = read_mapping(path).get("loss", "missing")
    if loss is None:
        return math.nan
    if not isinstance(loss, int | float):
        raise damaged(path, "its loss is not a number")
    return float(loss)


def has_weights(work: Path, candidate: Candidate) -> bool:
    """Whether the weights of a trained candidate are there as a whole."""
    path = weights_file(work, candidate)
    if all(value == () for value in candidate.changes.values()):
        return path.is_file()  # no block: a file without weights cannot be opened
    try:
        read_metadata(path)
    except (OSError, ValueError):
        return False
    return True
