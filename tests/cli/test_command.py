"""One function runs every command and turns its errors into one line."""

import signal
import subprocess
import sys
import time

import pytest

from igcv3det.cli.command import command_parser, report, run_command
from igcv3det.cli.errors import error_line
from igcv3det.config import RangeError

WORKER = """Caught ValueError in DataLoader worker process 0.
Original Traceback (most recent call last):
  File "fetch.py", line 55, in fetch
    return self.collate_fn(data)
ValueError: a.jpg: cut off
"""


def failing(error):
    def run(options):
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("a.json: not JSON"), "a.json: not JSON"),
        (FileNotFoundError("a.jpg: no such file"), "a.jpg: no such file"),
        (ValueError("first\nsecond"), "first"),
        (ValueError(WORKER), "a.jpg: cut off"),
        (ValueError(), "ValueError (--debug shows where)"),
        (KeyError("x"), "KeyError: 'x' (--debug shows where)"),
        (
            ModuleNotFoundError("no", name="pycocotools.coco"),
            "needs pycocotools: pip install 'igcv3det[train]'",
        ),
        (ModuleNotFoundError("No module named 'mine'", name="mine"), "No module named 'mine'"),
        (ImportError("nope"), "nope"),
        (PermissionError(13, "Permission denied", "a.json"), "a.json: Permission denied"),
    ],
)
def test_an_error_is_one_line(error, line, capsys):
    assert run_command("predict", list, failing(error), ["a"]) == 1
    assert capsys.readouterr().err == f"predict: {line}\n"
    assert error_line(error) == line


def test_a_value_out_of_its_range_is_a_wrong_call(capsys):
    error = RangeError("data.mosaic must be in [0, 1], got 2")
    assert run_command("train", list, failing(error), ["a"]) == 2
    repeated = ValueError(str(error))  # as jsonargparse raises where a class refuses a value
    repeated.__cause__ = error
    assert run_command("train", list, failing(repeated), ["a"]) == 2
    of_a_file = ValueError(f"a.safetensors: {error}")
    of_a_file.__cause__ = error
    assert run_command("train", list, failing(of_a_file), ["a"]) == 1
    capsys.readouterr()
    assert run_command("train", list, failing(error), ["a"]) == 2
    assert capsys.readouterr().err == f"train: {error}\n"


def test_the_cause_of_a_parsers_error_is_shown(capsys):
    def run(options):
        try:
            raise ModuleNotFoundError("Requirement 'wandb>=0.12.10' not met. HINT: try pip")
        except ModuleNotFoundError as error:
            message = "Does not validate against any of the Union subtypes\nErrors:\n  - ..."
            raise ValueError(message) from error

    assert run_command("train", list, run, []) == 1
    line = "train: Requirement 'wandb>=0.12.10' not met. HINT: try pip\n"
    assert capsys.readouterr().err == line


@pytest.mark.parametrize("args", [["--debug", "a"], ["a", "--debug"]])
def test_debug_shows_the_traceback(args, capsys):
    parser = command_parser("predict", "")
    parser.add_argument("word")
    assert run_command("predict", parser.parse_args, failing(ValueError("x")), args) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-1] == "predict: x"


def test_an_interrupt_is_one_line(capsys):
    assert run_command("predict", list, failing(KeyboardInterrupt()), []) == 130
    assert capsys.readouterr().err == "predict: interrupted\n"


def test_an_interrupt_that_python_ignores_comes_again():
    """What is raised where an object is deleted is ignored."""

    class Deleted:
        def __del__(self):
            raise KeyboardInterrupt

    def run(options):
        Deleted()
        time.sleep(60)
        return 0

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may ignore it
    start = time.monotonic()
    try:
        assert run_command("predict", list, run, []) == 130
    finally:
        signal.signal(signal.SIGINT, before)
    assert time.monotonic() - start < 30


def test_a_tool_goes_by_its_own_name(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["tools/eval_det.py"])
    report("eval", "x")
    report("predict", "y")
    monkeypatch.setattr(sys, "argv", ["tools/check_data.py"])
    report("check-data", "z")
    assert capsys.readouterr().err == "eval_det: x\npredict: y\ncheck_data: z\n"


def test_a_closed_pipe_ends_the_command_quietly():
    code = (
        "import sys\n"
        "from igcv3det.cli.command import run_command\n"
        "def run(options):\n"
        "    for line in range(100_000):\n"
        "        print(line)\n"
        "    return 0\n"
        "sys.exit(run_command('predict', list, run, []))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout.readline() == b"0\n"
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_standard_output_may_be_closed(monkeypatch):
    monkeypatch.setattr("sys.stdout", None)
    assert run_command("x", lambda args: None, lambda options: 0, []) == 0
