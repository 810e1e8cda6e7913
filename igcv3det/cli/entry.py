"""``igcv3det COMMAND ...``: finds the command and runs it."""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from igcv3det.cli.command import DEBUG, DONE, FAILED, PROGRAM, TOOLS, WRONG_CALL, report
from igcv3det.version import __version__

COMMANDS = {
    name: f"igcv3det.cli.{name.replace('-', '_')}"
    for name in (
        *("predict", "train", "eval", "export", "serve"),
        *("models", "compare", "compress", "benchmark"),
        *("check-data", "show-data", "convert-data", "split-data", "make-shapes", "make-masks"),
        *("distill", "fuse-boxes", "train-cls", "eval-cls", "demo"),
    )
}
"""Modules by command, in the order of the overview."""
RESEARCH = {
    "ablate": "research.ablation.cli",
    "convert-tf": "research.convert.cli",
    "release": "research.release",
}
"""Commands of the clone, which are not part of the installed package."""
ALIASES = {tool.replace("_", "-"): command for command, tool in TOOLS.items()}
OVERVIEW, VERSION = ("-h", "--help", "help"), ("-V", "--version")


def main(args: Sequence[str] | None = None) -> int:
    """Runs a command of the package.

    Args:
        args: the command and its arguments; None takes those of the process.

    Returns:
        Exit status of the command; 2 if there is none of that name.
    """
    given = list(sys.argv[1:] if args is None else args)
    end = given.index("--") if "--" in given else len(given)  # what follows is no option
    debug = [word for word in given[:end] if word == DEBUG]
    words = [word for word in given[:end] if word != DEBUG] + given[end:]
    if not words or words[0] in OVERVIEW:
        print(_overview())
        return DONE
    if words[0] in VERSION:
        print(f"{PROGRAM} {__version__}")
        return DONE
    name = words[0].replace("_", "-")
    name = ALIASES.get(name, name)
    if name in COMMANDS:
        module = importlib.import_module(COMMANDS[name])
    elif name in RESEARCH:
        if not _add_clone():
            report(PROGRAM, f"{name} is part of the repository: run it from a clone")
            return FAILED
        module = importlib.import_module(RESEARCH[name])
    else:
        report(PROGRAM, _unknown(words[0]))
        return WRONG_CALL
    status: int = module.main([*debug, *words[1:]])
    return status


def _add_clone() -> bool:
    """Makes ``research`` importable if this package is that of a clone."""
    clone = Path(__file__).resolve().parent.parent.parent
    if not (clone / "research" / "ablation").is_dir():
        return False
    if str(clone) not in sys.path:
        sys.path.insert(0, str(clone))
    return True


def _unknown(word: str) -> str:
    known = [*COMMANDS, *ALIASES, *RESEARCH]
    near = difflib.get_close_matches(word.replace("_", "-"), known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"see {PROGRAM} --help"
    kind = "option" if word.startswith("-") else "command"
    return f"no {kind} {word!r}; {hint}"


def _overview() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"usage: {PROGRAM} COMMAND ...", "", "commands:"]
    for name, module in COMMANDS.items():
        doc = importlib.import_module(module).__doc__ or ""
        lines.append(f"  {name:<{width}}  {doc.splitlines()[0]}")
    lines += ["", f"{PROGRAM} COMMAND --help shows the options of a command."]
    lines += [f"options: --version, {DEBUG} (show the traceback of an error)"]
    return "\n".join(lines)
