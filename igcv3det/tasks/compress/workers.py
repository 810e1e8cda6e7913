"""Candidates trained in processes of their own; each leaves two files."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from igcv3det.atomic_files import atomic_write
from igcv3det.measure.memory import peak_so_far_mib
from igcv3det.tasks.compress.assembly import TAP_ORDER
from igcv3det.tasks.compress.candidate_files import weights_file
from igcv3det.tasks.compress.candidates import Candidate
from igcv3det.tasks.compress.features import FeatureStore, read_fisher
from igcv3det.tasks.compress.load_teacher import load_teacher
from igcv3det.tasks.compress.start import start_candidate
from igcv3det.tasks.compress.teacher import Teacher
from igcv3det.tasks.compress.training import PartLoss, PartTraining, judge, train_part
from igcv3det.weight_files import write_safetensors

_STARTED_ON = 48  # images


class Trained(NamedTuple):
    """What became of a candidate.

    Attributes:
        key: the candidate's.
        loss: divergence of the outputs; None where it cannot be made.
        error: why.
        peak_mib: of the process.
    """

    key: str
    loss: float | None
    error: str
    peak_mib: float

    def __str__(self) -> str:
        """The candidate and its loss, or why it is left out."""
        result = f"left out: {self.error}" if self.loss is None else f"{self.loss:.2f} nats"
        return f"{self.key} {result}"


class _Worker(NamedTuple):
    teacher: Teacher
    work: Path
    loss: PartLoss
    train: FeatureStore
    held_out: FeatureStore
    options: PartTraining


_worker: _Worker | None = None


def train_all(
    candidates: Sequence[Candidate],
    checkpoint: str,
    work: Path,
    options: PartTraining,
    processes: int,
) -> Iterator[Trained]:
    """Trains candidates, some at once, and gives them in the order in which they are done.

    Raises:
        ChildProcessError: a process has ended.
    """
    if not candidates:
        return
    context = multiprocessing.get_context("spawn")
    arguments = (checkpoint, str(work), options)
    pool = ProcessPoolExecutor(min(processes, len(candidates)), context, open_worker, arguments)
    try:
        with _interrupts_blocked():
            futures: list[Future[Trained]] = [pool.submit(train_candidate, c) for c in candidates]
        for future in as_completed(futures):
            yield future.result()
    except BrokenProcessPool:
        raise ChildProcessError(
            "a process that trains candidates has ended, perhaps for want of memory (then fewer "
            "--workers help); what is done is kept"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Holds SIGINT back while processes are started; these never get it.

    The parent lets candidates in hand be finished, and an interrupt while a process imports would
    end it with a traceback.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def open_worker(checkpoint: str, work: str, options: PartTraining) -> None:
    """Reads what all candidates of a process need; called once in each."""
    global _worker  # one for each process of the pool
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # where it cannot be blocked
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    folder = Path(work)
    teacher = load_teacher(checkpoint)
    train, held_out = FeatureStore(folder / "train"), FeatureStore(folder / "held_out")
    loss = PartLoss(teacher, train, read_fisher(folder))
    _worker = _Worker(teacher, folder, loss, train, held_out, options)


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for candidates forever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def train_candidate(candidate: Candidate) -> Trained:
    """Trains a candidate in a worker and writes its files; the JSON file last.

    Raises:
        RuntimeError: an error that no candidate should cause; it names the candidate.
    """
    assert _worker is not None
    path = weights_file(_worker.work, candidate)
    started = time.monotonic()
    error = ""
    try:
        losses: dict[str, float | None] = {**_train(candidate, _worker, path)}
    except (FloatingPointError, torch.linalg.LinAlgError) as failure:  # type: ignore[attr-defined]
        losses, error = {"loss": None}, str(failure).partition("\n")[0]
    except OSError:  # of the disk, not of the candidate
        raise
    except Exception as failure:
        raise RuntimeError(f"{candidate.key}: {type(failure).__name__}: {failure}") from failure
    result = {**losses, "error": error, "s": time.monotonic() - started}
    atomic_write(path.with_suffix(".json"), json.dumps(result), durable=False)
    return Trained(candidate.key, losses["loss"], error, peak_so_far_mib())


def _train(candidate: Candidate, worker: _Worker, path: Path) -> dict[str, float]:
    teacher, _, loss, train, held_out, options = worker
    reads = teacher.parts()[candidate.position].reads
    inputs = torch.from_numpy(np.array(train.read(reads)[:_STARTED_ON])).float()
    replacement = start_candidate(candidate, teacher, inputs, loss.metrics)
    first, last = train_part(replacement, loss, train, options)
    judged = judge(teacher, candidate.position, replacement, held_out)
    if not math.isfinite(judged):
        raise FloatingPointError("its outputs are not finite")
    weights = {k: v.contiguous() for k, v in replacement.part.state_dict().items()}
    if replacement.tap_order is not None:
        weights[TAP_ORDER] = replacement.tap_order
    write_safetensors(path, weights, {})
    return {"loss": judged, "first": first, "last": last}
