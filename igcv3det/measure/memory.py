"""Peak memory of one target, measured in a process that does nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from igcv3det.measure.targets import BenchmarkTarget, open_network
from igcv3det.measure.training_step import TrainingStepOptions, open_training_step

_CALLS = 3  # all allocations happen in the first calls


def peak_mib(target: BenchmarkTarget, step: TrainingStepOptions | None = None) -> float:
    """Peak resident memory of a process that opens a target and runs it, Python included.

    Args:
        target: what to open.
        step: how a training step is computed; None runs the network.

    Raises:
        ValueError: the process failed; the message has the last line of its stderr.
    """
    arguments = json.dumps([target._asdict(), step])
    return peak_of_process(__spec__.name, arguments, target.path)


def peak_of_process(module: str, arguments: str, path: str) -> float:
    """The figure that ``python -m module arguments`` prints, `own_peak_mib` of that process.

    Args:
        module: its name.
        arguments: as one word.
        path: what it opens, for the message.

    Raises:
        ValueError: the process failed; the message has the last line of its stderr.
    """
    package = str(Path(__file__).resolve().parents[2])  # which need not be installed
    search_path = os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-m", module, arguments],
        env={**os.environ, "PYTHONPATH": search_path},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["killed"])[-1]
        raise ValueError(f"{path}: its memory could not be measured: {reason}")
    return float(done.stdout.split()[-1])


def _run(arguments: str) -> float:
    fields, step = json.loads(arguments)
    target = BenchmarkTarget(**fields)
    call = open_training_step(target, TrainingStepOptions(*step)) if step else open_network(target)
    return own_peak_mib(call)


def own_peak_mib(call: Callable[[], object]) -> float:
    """Peak resident memory of this process after some calls."""
    for _ in range(_CALLS):
        call()
    return peak_so_far_mib()


def peak_so_far_mib() -> float:
    """Peak resident memory of this process until now."""
    status = Path("/proc/self/status")
    if status.exists():
        # getrusage would give the parent's peak if that is higher: on Linux it is inherited
        fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(fields["VmHWM"].split()[0]) / 1024
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


if __name__ == "__main__":
    sys.stdout.write(f"{_run(sys.argv[1])}\n")
