r"""Runs a list of experiments with seeds and writes tables and curves.

Usage:
    python tools/ablate.py [--config FILE] [--only NAME]... [--data PATH] [--output DIR] [--jobs N]
    python tools/ablate.py --config FILE --table

Example:
    python tools/ablate.py
    python tools/ablate.py --config configs/ablate/cifar10_short.yaml --data cifar10.zip
    python tools/ablate.py --config configs/ablate/cifar10_short.yaml --only "IGCV3-W"

Without --config a small plan runs on synthetic shapes, in minutes. A run that is finished is never
repeated, one that was cut goes on from its last checkpoint: call again until all is done. Another
setting, seed or data set makes another run. After each run the output folder (``runs/ablate/`` and
the file's name) has ``table.md``, ``table.csv`` and ``curves-*.png``; --table only writes these.
``results/`` in it has a small file for each finished run: what several machines have run is put
together by copying these files. --jobs trains several runs at a time, each with its share of the
threads.

Exit status: 0 all done, 1 a run could not be finished, 2 wrong call.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path

# Before torch: threads that wait spin for a moment, not so long that loaders lack the cores
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

from igcv3det.cli.arguments import positive_int
from igcv3det.engine.malloc import tune_malloc
from research.ablation.plan import read_plan
from research.ablation.runner import MARKDOWN, Ablation

ROOT = Path(__file__).resolve().parent.parent.parent
DEFAULT = ROOT / "configs" / "ablate" / "shapes.yaml"


def main(args: list[str] | None = None) -> int:
    """Runs what is not done; None takes the command line's arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", type=Path, default=DEFAULT, metavar="FILE")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="repeatable")
    parser.add_argument("--data", metavar="PATH", help="in the place of the plan's data.root")
    parser.add_argument("--output", type=Path, metavar="DIR")
    parser.add_argument("--jobs", type=positive_int, default=1, metavar="N", help="runs at a time")
    parser.add_argument("--table", action="store_true", help="run nothing, only write the tables")
    options = parser.parse_args(args)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    tune_malloc()
    output = options.output or Path("runs") / "ablate" / options.config.stem
    try:
        plan = read_plan(options.config, options.data)
        ablation = Ablation(plan, output, _command(options))
        if options.table:
            ablation.write(timed=False)
            failures = []
        else:
            failures = ablation.execute(plan.only(options.only), options.jobs)
    except (OSError, ValueError) as error:
        print(f"ablate: {error}", file=sys.stderr)
        return 1
    for failure in failures:
        print(f"ablate: {failure}", file=sys.stderr)
    print(output / MARKDOWN)
    return 1 if failures else 0


def _command(options: argparse.Namespace) -> str:
    """As it stands in the tables: of this clone, without the folders of this machine."""
    config = options.config.resolve()
    shown = config.relative_to(ROOT) if config.is_relative_to(ROOT) else options.config
    place = " --data PATH" if options.data else ""
    return f"python tools/ablate.py --config {shown.as_posix()}{place}"
