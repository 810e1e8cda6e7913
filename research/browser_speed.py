"""A frame in the browser page against the same network in ONNX Runtime, in turn.

Usage:
    make browser
    python -m research.browser_speed build/browser detector.onnx photo.jpg [--rounds 40]

Opens the page in headless Chromium, a second time so that all files come from its cache, and times
a frame there and a run of the .onnx (two threads, float32 or any other) by turns, so that both meet
the same load of the machine. The ratio is that of the medians. Needs Node, Chromium (CHROMIUM may
name it) and ``npm ci`` in tools/browser. Exit status: 0 done, 1 no Chromium.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import IO, Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the clone's own package

import numpy as np

from igcv3det.cli.command import command_parser, run_command
from igcv3det.io.images import read_image
from igcv3det.measure.latency import quantile
from igcv3det.measure.machine import describe_machine
from igcv3det.measure.tables import text_table
from igcv3det.runtime import load_exported

HERE = Path(__file__).resolve().parent
CHROMIUMS = ("chromium", "chromium-browser", "google-chrome")


def main(args: list[str] | None = None) -> int:
    """Returns the exit status."""
    return run_command("browser_speed", _parse, _run, args)


def _run(options: argparse.Namespace) -> int:
    names = (os.environ.get("CHROMIUM"), *CHROMIUMS)
    chromium = next((file for name in names if name and (file := shutil.which(name))), None)
    if chromium is None:
        raise FileNotFoundError("no Chromium; CHROMIUM may name one")
    detector = load_exported(options.onnx, options.threads)
    inputs = detector.preprocess(read_image(options.image))[None]
    script = ["node", str(HERE / "browser_speed.mjs"), options.page, chromium, options.image]
    times: dict[str, list[float]] = {"native": [], "network": [], "preprocessing": []}
    with subprocess.Popen(script, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as page:
        assert page.stdin is not None
        assert page.stdout is not None
        opened = json.loads(page.stdout.readline())
        for number in range(options.rounds + options.warmup):
            start = time.perf_counter()
            detector(inputs)
            native = 1000 * (time.perf_counter() - start)
            frame = _frame(page.stdin, page.stdout)
            if number >= options.warmup:
                for name, value in {"native": native, **frame}.items():
                    times[name].append(value)
        page.stdin.close()
    _report(opened, times)
    return 0


def _parse(args: list[str]) -> argparse.Namespace:
    parser = command_parser("research.browser_speed", __doc__, program="python -m")
    add = parser.add_argument
    add("page", help="folder of the built page")
    add("onnx", type=Path, help="file that ONNX Runtime runs")
    add("image")
    add("--threads", type=int, default=2, help="of ONNX Runtime")
    add("--rounds", type=int, default=40)
    add("--warmup", type=int, default=5)
    return parser.parse_args(args)


def _frame(requests: IO[str], replies: IO[str]) -> dict[str, float]:
    requests.write("frame\n")
    requests.flush()
    frame: dict[str, float] = json.loads(replies.readline())
    return frame


def _report(opened: dict[str, Any], times: dict[str, list[float]]) -> None:
    frames = np.add(times["network"], times["preprocessing"]).tolist()
    native = median(times["native"])
    rows = [
        ("ONNX Runtime", times["native"]),
        ("page: network", times["network"]),
        ("page: preprocessing", times["preprocessing"]),
        ("page: frame", frames),
    ]
    cells = [
        [name, *(f"{quantile(own, q):.1f}" for q in (0.1, 0.5, 0.9)), f"{median(own) / native:.2f}"]
        for name, own in rows
    ]
    print(text_table(["", "10 %, ms", "median, ms", "90 %, ms", "ratio"], cells))
    first = f"{opened['firstDetection']:.0f} ms from opening the page again to the first boxes"
    print(f"{opened['engine']}; {first}\n{describe_machine()}")


if __name__ == "__main__":
    sys.exit(main())
