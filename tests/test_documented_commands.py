"""Every command line that a page, a configuration or a program documents is parsed, values too."""

import argparse
import ast
import configparser
import importlib
import re
import shlex
from pathlib import Path

import jsonargparse
import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "data" / "README.md",
]
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))
PROGRAMS = [
    *sorted((ROOT / "igcv3det" / "cli").glob("*.py")),
    *sorted((ROOT / "research").rglob("*.py")),
]
STARTS = ("igcv3det ", "python ", "make ", "pip ")
CARRIED = ("configs", "igcv3det", "research", "tests", "tools")
"""Folders of the repository; a command that names a file of them must name one that exists."""


def _lines(path):
    """Lines of code blocks, of a configuration's ``# Run:``, or of a program's docstring."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.M | re.S)
    elif path.suffix == ".yaml":
        head = re.split("^[a-z]", text, maxsplit=1, flags=re.M)[0]
        blocks = [re.sub(r"^#( Run:)? *", "", head, flags=re.M)]
    else:
        doc = ast.get_docstring(ast.parse(text)) or ""
        blocks = ["\n".join(re.findall(r"^ +(.*)$", doc, re.M))]
    for block in blocks:
        yield from re.sub(r"\\\n\s*", "", block).splitlines()


def _commands():
    """Where each command stands first, by command."""
    found = {}
    for path in (*PAGES, *CONFIGS, *PROGRAMS):
        for line in _lines(path):
            command = re.split(r"\s#|\s{3,}", line.strip())[0]
            is_synopsis = re.search(r"\[[-A-Z]|\bCOMMAND\b|…|\.\.\. |\$", command)
            if command.startswith(STARTS) and not is_synopsis:
                found.setdefault(command, path.relative_to(ROOT).as_posix())
    return found


COMMANDS = _commands()
READERS = {"distill": "model: {teacher: x}\ndata: {folders: [x]}", "train": "data: {root: x}"}
"""What stands in a configuration of the reader's own (``A.yaml``), by command."""


def _starting(*starts):
    chosen = [command for command in COMMANDS if command.startswith(starts)]
    return pytest.mark.parametrize(
        "command", chosen, ids=[f"{COMMANDS[command]}: {command}" for command in chosen]
    )


class ParsedError(BaseException):
    """Ends a command once its arguments are parsed; no Exception, as commands report these."""


@pytest.fixture
def stops_after_parsing(monkeypatch):
    for parser in (argparse.ArgumentParser, jsonargparse.ArgumentParser):

        def parse(self, *args, _parse=parser.parse_args, **options):
            _parse(self, *args, **options)
            raise ParsedError

        monkeypatch.setattr(parser, "parse_args", parse)


def _main(words):
    """The function that a command runs, and its arguments."""
    program, *args = words
    if program == "igcv3det" or args[:2] == ["-m", "igcv3det"]:
        from igcv3det.cli.entry import main

        return main, args[0 if program == "igcv3det" else 2 :]
    module, args = (args[1], args[2:]) if args[0] == "-m" else (args[0], args[1:])
    module = module.removesuffix(".py").replace("/", ".")
    return importlib.import_module(module).main, args


def _require_carried_files(words):
    for word in words:
        for value in word.split("="):
            if value.split("/")[0] in CARRIED and "/" in value:
                assert (ROOT / value).exists(), f"no file {value}"


@_starting("igcv3det ", "python ")
def test_it_parses(command, stops_after_parsing, tmp_path, monkeypatch):
    words = shlex.split(command)
    _require_carried_files(words)
    for folder in CARRIED:
        (tmp_path / folder).symlink_to(ROOT / folder)
    for word in words:
        if re.fullmatch(r"[\w/]+\.yaml", word) and word.split("/")[0] not in CARRIED:
            (tmp_path / word).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / word).write_text(READERS.get(words[1], "{}"))
    monkeypatch.chdir(tmp_path)
    main, args = _main(words)
    if args[:1] == ["pytest"]:
        return
    with pytest.raises(ParsedError):
        main(args)


@_starting("make ")
def test_make_has_the_target(command):
    rules = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M)
    assert set(shlex.split(command)[1:]) <= set(rules)


@_starting("pip ")
def test_pip_installs_extras_that_exist(command):
    setup = configparser.ConfigParser(interpolation=None)
    setup.read(ROOT / "setup.cfg")
    for extras in re.findall(r"\[(.*?)\]", command):
        assert set(extras.split(",")) <= set(setup["options.extras_require"])
