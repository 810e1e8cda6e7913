"""``igcv3det COMMAND``: commands are found by name, by their tool's name, and suggested."""

import argparse
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from igcv3det.cli import entry
from igcv3det.cli.entry import ALIASES, COMMANDS, RESEARCH, main
from igcv3det.version import __version__

ROOT = Path(__file__).resolve().parent.parent.parent


def test_overview_names_every_command(capsys):
    assert main([]) == main(["--help"]) == 0
    first, second = capsys.readouterr().out.split("usage:")[1:]
    assert first == second
    for command in COMMANDS:
        assert f"\n  {command} " in first


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"igcv3det {__version__}\n"


@pytest.mark.parametrize(
    ("word", "line"),
    [
        ("predit", "igcv3det: no command 'predit'; did you mean predict?\n"),
        ("eval-dett", "igcv3det: no command 'eval-dett'; did you mean eval-det?\n"),
        ("xyz", "igcv3det: no command 'xyz'; see igcv3det --help\n"),
        ("--verbose", "igcv3det: no option '--verbose'; see igcv3det --help\n"),
    ],
)
def test_unknown_commands(word, line, capsys):
    assert main([word]) == 2
    assert capsys.readouterr().err == line


@pytest.mark.parametrize(
    ("word", "command"),
    [
        ("infer", "predict"),
        ("train_det", "train"),
        ("eval-det", "eval"),
        ("make_shapes", "make-shapes"),
    ],
)
def test_names_of_tools_are_accepted(word, command, monkeypatch):
    given = []
    module = importlib.import_module(COMMANDS[command])
    monkeypatch.setattr(module, "main", lambda args: given.append(args) or 7)
    assert main(["--debug", word, "a", "--b"]) == 7
    assert given == [["--debug", "a", "--b"]]
    assert main([word, "a", "--debug", "--", "--debug"]) == 7
    assert given[1] == ["--debug", "a", "--", "--debug"]


def test_research_is_found_from_a_clone_alone(capsys, monkeypatch, tmp_path):
    with pytest.raises(SystemExit) as stop:
        main(["convert_tf", "--help"])
    assert stop.value.code == 0
    monkeypatch.setattr(entry, "__file__", str(tmp_path / "igcv3det" / "cli" / "entry.py"))
    capsys.readouterr()
    assert main(["ablate"]) == 1
    assert capsys.readouterr().err == (
        "igcv3det: ablate is part of the repository: run it from a clone\n"
    )


def test_every_tool_is_a_short_script_of_its_command():
    tools = {path.stem: path for path in (ROOT / "tools").glob("*.py")}
    names = {name.replace("-", "_") for name in (*COMMANDS, *RESEARCH)} - {"models"}
    renamed = {command.replace("-", "_"): tool for tool, command in ALIASES.items()}
    assert set(tools) == {renamed.get(name, name).replace("-", "_") for name in names}
    for stem, path in tools.items():
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 15
        name = stem.replace("_", "-")
        module = {**COMMANDS, **RESEARCH}[ALIASES.get(name, name)]
        assert f"from {module} import main\n" in path.read_text(encoding="utf-8")


def test_no_command_imports_anything_heavy_before_it_parses():
    modules = sorted({**COMMANDS, **RESEARCH}.values())
    code = (
        "import importlib, sys\n"
        f"calls = [(name, word) for name in {modules} for word in ('--help', '--wrong')]\n"
        "wrong = 'a --output b --true c --classes unicorn'\n"
        "for name, words in [*calls, ('igcv3det.cli.fuse_boxes', wrong)]:\n"
        "    module = importlib.import_module(name)\n"
        "    try:\n"
        "        module.main(words.split())\n"
        "    except SystemExit:\n"
        "        pass\n"
        "heavy = {'torch', 'numpy', 'cv2', 'PIL', 'pytorch_lightning', 'jsonargparse'}\n"
        "print('imported:', sorted(heavy & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "imported: []"


@pytest.mark.parametrize("name", sorted({*COMMANDS, *RESEARCH} - {"train", "train-cls", "distill"}))
def test_every_option_has_a_help_text(name, monkeypatch):
    parsers = []

    def stop(parser, args=None, namespace=None):
        parsers.append(parser)
        raise SystemExit(0)

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", stop)
    module = importlib.import_module({**COMMANDS, **RESEARCH}[name])
    with pytest.raises(SystemExit):
        module.main([])
    (parser,) = parsers
    assert parser.prog == f"igcv3det {name}"
    assert [action.dest for action in parser._actions if not action.help] == []
