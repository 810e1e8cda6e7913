"""Trains candidates in processes of their own; each leaves two files."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from igcv3det.atomic_files import atomic_write
from igcv3det.checkpoint import load_detector
from igcv3det.detector import SSDLite
from igcv3det.tasks.compress.assembly import TAP_ORDER
from igcv3det.tasks.compress.candidates import Candidate
from igcv3det.tasks.compress.design import explicit_detector
from igcv3det.tasks.compress.features import FeatureStore, read_fisher
from igcv3det.tasks.compress.parts import parts_of
from igcv3det.tasks.compress.start import start_candidate
from igcv3det.tasks.compress.training import PartLoss, PartTraining, judge, train_part
from igcv3det.weight_files import write_safetensors

_STARTED_ON = 48  # images


class _Worker(NamedTuple):
    teacher: SSDLite
    work: Path
    loss: PartLoss
    train: FeatureStore
    held_out: FeatureStore
    options: PartTraining


_worker: _Worker | None = None


def open_worker(checkpoint: str, work: str, options: PartTraining) -> None:
    """Reads what all candidates of a process need; called once in each."""
    global _worker  # one for each process of the pool
    torch.set_num_threads(1)
    folder = Path(work)
    teacher = explicit_detector(load_detector(checkpoint))
    train, held_out = FeatureStore(folder / "train"), FeatureStore(folder / "held_out")
    loss = PartLoss(teacher, train, read_fisher(folder))
    _worker = _Worker(teacher, folder, loss, train, held_out, options)


def train_candidate(candidate: Candidate) -> tuple[str, float]:
    """Trains a candidate in a worker and writes its files; the JSON file last."""
    assert _worker is not None
    teacher, work, loss, train, held_out, options = _worker
    started = time.monotonic()
    reads = parts_of(teacher)[candidate.position].reads
    inputs = torch.from_numpy(np.array(train.read(reads)[:_STARTED_ON])).float()
    replacement = start_candidate(candidate, teacher, inputs, loss.metrics)
    first, last = train_part(replacement, loss, train, options)
    judged = judge(teacher, candidate.position, replacement, held_out)
    weights = {k: v.contiguous() for k, v in replacement.part.state_dict().items()}
    if replacement.tap_order is not None:
        weights[TAP_ORDER] = replacement.tap_order
    path = work / "candidates" / f"{candidate.key}.safetensors"
    path.parent.mkdir(exist_ok=True)
    write_safetensors(path, weights, {})
    result = {"loss": judged, "first": first, "last": last, "s": time.monotonic() - started}
    atomic_write(path.with_suffix(".json"), json.dumps(result), durable=False)
    return candidate.key, judged
