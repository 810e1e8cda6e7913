r"""Runs an ablation study: trains every experiment with several seeds, writes tables and curves.

Examples:
    python tools/ablate.py
    python tools/ablate.py --config configs/ablate/cifar10_short.yaml --data cifar10.zip
    python tools/ablate.py --config configs/ablate/cifar10_short.yaml --only "IGCV3-W"
    python tools/ablate.py --config configs/ablate/cifar10_short.yaml --table

The default is a small plan on synthetic shapes that takes minutes. Finished runs are not repeated
and interrupted ones resume from their last checkpoint: call again until all are finished. A run is
identified by its settings, seed and data. After each run ``table.md``, ``table.csv`` and
``curves-*.png`` are written to the output folder (default: ``runs/ablate/`` and the file's name);
--table writes them without training. ``results/`` in that folder has a small file per finished run:
copy these files to merge the runs of several machines. --jobs trains several runs at a time, each
with its share of the threads.

Exit status: 0 all done, 1 a run could not be finished, 2 wrong call.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from igcv3det.cli.arguments import positive_int
from igcv3det.cli.command import command_parser, report, run_command
from igcv3det.cli.training import prepare_process

ROOT = Path(__file__).resolve().parent.parent.parent
DEFAULT = ROOT / "configs" / "ablate" / "shapes.yaml"


def main(args: list[str] | None = None) -> int:
    """Returns the exit status."""
    return run_command("ablate", _parse, _run, args)


def _parse(args: list[str]) -> argparse.Namespace:
    parser = command_parser("ablate", __doc__)
    add = parser.add_argument
    add(
        "--config",
        type=Path,
        default=DEFAULT,
        metavar="FILE",
        help="plan (default: shapes.yaml)",
    )
    add(
        "--only",
        action="append",
        default=[],
        metavar="NAME",
        help="experiment to run; repeatable",
    )
    add("--data", metavar="PATH", help="data set (default: data.root of the file)")
    add("--output", type=Path, metavar="DIR", help="folder for runs and tables")
    add("--jobs", type=positive_int, default=1, metavar="N", help="runs at a time (default: 1)")
    add("--table", action="store_true", help="only write tables and curves")
    return parser.parse_args(args)


def _run(options: argparse.Namespace) -> int:
    prepare_process()
    from research.ablation.plan import read_plan
    from research.ablation.runner import MARKDOWN, Ablation

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    output = options.output or Path("runs") / "ablate" / options.config.stem
    plan = read_plan(options.config, options.data)
    ablation = Ablation(plan, output, _command(options))
    failures: list[str] = []
    if options.table:
        ablation.write(timed=False)
    else:
        failures = ablation.execute(plan.only(options.only), options.jobs)
    for failure in failures:
        report("ablate", failure)
    print(output / MARKDOWN)
    return 1 if failures else 0


def _command(options: argparse.Namespace) -> str:
    """The command to print in the tables, without paths of this machine."""
    config = options.config.resolve()
    shown = config.relative_to(ROOT) if config.is_relative_to(ROOT) else options.config
    place = " --data PATH" if options.data else ""
    return f"python tools/ablate.py --config {shown.as_posix()}{place}"


if __name__ == "__main__":
    sys.exit(main())
