"""Lists the pretrained weights: name, file, figures.

Example:
    igcv3det models --json models.json

A name is accepted wherever a command takes MODEL. Exit status: 0 listed, 1 could not be done,
2 wrong call.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from igcv3det.cli.command import command_parser, run_command
from igcv3det.cli.results import refuse_overwriting, write_json
from igcv3det.pretrained import ALIASES, DEFAULT, PRETRAINED


def main(args: list[str] | None = None) -> int:
    """Returns the exit status."""
    return run_command("models", _parse, _run, args)


def _parse(args: list[str]) -> argparse.Namespace:
    parser = command_parser("models", __doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the list to this file")
    options = parser.parse_args(args)
    refuse_overwriting(parser, options, PRETRAINED.values(), ["json"])
    return options


def _run(options: argparse.Namespace) -> int:
    from igcv3det.checkpoint import FIGURES, STATUS
    from igcv3det.weight_files import read_metadata

    rows = []
    for name, file in PRETRAINED.items():
        texts = read_metadata(file)
        rows.append(
            {
                "name": name,
                "aliases": [alias for alias, known in ALIASES.items() if known == name],
                "file": str(file),
                "status": texts.get(STATUS),
                "figures": texts.get(FIGURES),
                "default": name == DEFAULT,
            }
        )
        note = " (default)" if name == DEFAULT else ""
        print(f"{name}{note}: {texts.get(FIGURES, 'no figures')}\n    {file}")
    if options.json:
        write_json(options.json, rows)
        print(f"The list is in {options.json}")
    return 0
