r"""Start-up time of the commands, relative to the import of PyTorch.

Usage:
    python -m research.startup [--rounds 5] [--clock cpu] [--json FILE]

Every row starts a new process; the rows are timed in turn, under the same load of the machine.
Limits: 1.5 s for ``--help`` of every command and for the error of a wrong call; for ``predict`` on
one image 1.3 times the import of PyTorch, loading the weights and one pass of the network; for
``import igcv3det`` the import of PyTorch plus 0.3 s. ``--clock cpu`` counts processor time with one
thread, for busy machines. Exit status: 0 within all limits, 1 not, 2 wrong call.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from igcv3det.cli.arguments import positive_int
from igcv3det.cli.command import command_parser, run_command
from igcv3det.cli.entry import COMMANDS
from igcv3det.io.images import write_image
from igcv3det.measure.machine import processor_name
from igcv3det.measure.tables import text_table

ROOT = Path(__file__).resolve().parent.parent
HELP_S, PREDICT_RATIO, IMPORT_S = 1.5, 1.3, 0.3
TORCH, NETWORK, PREDICT = "import torch", "torch, weights, network", "predict IMAGE"
PACKAGE, PREDICTOR = "import igcv3det", "from igcv3det import Predictor"
# waiting threads would count as processor time
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
NETWORK_CODE = """
import torch
from igcv3det.checkpoint import load_detector
from igcv3det.pretrained import DEFAULT

detector = load_detector(DEFAULT)
size = detector.config.image_size
with torch.inference_mode():
    detector(torch.zeros(1, 3, size, size))
"""


class Row(NamedTuple):
    """One row of the table.

    Attributes:
        name: name of the row.
        command: command line of the process.
        status: expected exit status.
    """

    name: str
    command: Sequence[str]
    status: int = 0


def main(args: list[str] | None = None) -> int:
    """Returns the exit status."""
    return run_command("startup", _parse, _run, args)


def _run(options: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder) / "image.png"
        noise = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
        write_image(image, noise)
        rows = _rows(image)
        seconds: dict[str, list[float]] = {row.name: [] for row in rows}
        for turn in range(options.rounds + 1):
            for row in rows:
                duration = _time(row, options.clock, Path(folder))
                if turn:  # the first round fills the caches
                    seconds[row.name].append(duration)
    medians = {name: statistics.median(own) for name, own in seconds.items()}
    limits = _limits(medians)
    print(_table(medians, limits))
    print(f"{options.rounds} rounds, {options.clock} clock; {processor_name()}")
    if options.json:
        found = [
            {"name": name, "seconds": median, "limit": limits.get(name)}
            for name, median in medians.items()
        ]
        options.json.write_text(json.dumps(found, indent=1), encoding="utf-8")
    return 1 if any(medians[name] > limit for name, limit in limits.items()) else 0


def _parse(args: list[str]) -> argparse.Namespace:
    parser = command_parser("research.startup", __doc__, program="python -m")
    add = parser.add_argument
    add("--rounds", type=positive_int, default=5, help="timings of each row (default: 5)")
    add("--clock", choices=["wall", "cpu"], default="wall", help="elapsed or processor time")
    add("--json", type=Path, metavar="FILE", help="write the figures to this file")
    return parser.parse_args(args)


def _rows(image: Path) -> list[Row]:
    python = [sys.executable, "-c"]
    program = [sys.executable, "-m", "igcv3det"]
    rows = [
        Row(TORCH, [*python, "import torch"]),
        Row(PACKAGE, [*python, PACKAGE]),
        Row(PREDICTOR, [*python, PREDICTOR]),
        Row(NETWORK, [*python, NETWORK_CODE]),
        Row(PREDICT, [*program, "predict", str(image), "--json", "found.json"]),
    ]
    for command in COMMANDS:
        rows.append(Row(f"{command} --help", [*program, command, "--help"]))
        rows.append(Row(f"{command} --wrong", [*program, command, "--wrong"], 2))
    return rows


def _time(row: Row, clock: str, folder: Path) -> float:
    """Seconds of one process.

    Raises:
        RuntimeError: it ended with another status.
    """
    wall, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        row.command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **(ONE_THREAD if clock == "cpu" else {})},
        capture_output=True,
        text=True,
        check=False,
    )
    wall, after = time.perf_counter() - wall, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != row.status:
        raise RuntimeError(f"{row.name}: exit status {done.returncode}: {done.stderr}")
    if clock == "wall":
        return wall
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _limits(medians: dict[str, float]) -> dict[str, float]:
    limits = {name: HELP_S for name in medians if name.endswith(("--help", "--wrong"))}
    limits[PACKAGE] = medians[TORCH] + IMPORT_S
    limits[PREDICT] = medians[NETWORK] * PREDICT_RATIO
    return limits


def _table(medians: dict[str, float], limits: dict[str, float]) -> str:
    cells = [
        [
            name,
            f"{median:.2f} s",
            f"{median / medians[TORCH]:.2f}",
            f"{limits[name]:.2f} s" if name in limits else "-",
            "" if median <= limits.get(name, median) else "over",
        ]
        for name, median in medians.items()
    ]
    return text_table(["process", "median", "to torch", "limit", ""], cells)


if __name__ == "__main__":
    sys.exit(main())
