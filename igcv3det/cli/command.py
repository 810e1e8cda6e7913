"""What all commands share: their parser, and how a command is run and its errors are reported."""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TypeVar

from igcv3det.cli.errors import error_line, without_parser

DONE, FAILED, WRONG_CALL, INTERRUPTED, BROKEN_PIPE, TERMINATED = 0, 1, 2, 130, 141, 143
PROGRAM = "igcv3det"
DEBUG = "--debug"
TOOLS = {"predict": "infer", "train": "train_det", "eval": "eval_det"}
"""Scripts of ``tools/`` that are not named after their command."""
_SOON_S = 0.05

Options = TypeVar("Options")


def command_parser(
    name: str, description: str | None, program: str = PROGRAM
) -> argparse.ArgumentParser:
    """The parser of a command, with the option ``--debug``.

    Args:
        name: of the command.
        description: printed above the options as it stands.
        program: what the usage names before ``name``.
    """
    parser = argparse.ArgumentParser(
        prog=f"{program} {name}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(DEBUG, action="store_true", help="show the traceback of an error")
    return parser


def run_command(
    name: str,
    parse: Callable[[list[str]], Options],
    run: Callable[[Options], int],
    args: Sequence[str] | None = None,
) -> int:
    """Runs a command; an error becomes one line on standard error.

    Args:
        name: of the command, which begins the line.
        parse: turns arguments, among them ``--debug``, into options; raises SystemExit for
            ``--help`` and wrong calls.
        run: does the work and returns the exit status.
        args: arguments of the command; None takes those of the process.

    Returns:
        Exit status: that of ``run``, 1 after an error, 2 where that is a value out of its range,
        130 after an interrupt, 143 after a `TerminatedError`, 141 where the reader of standard
        output has gone.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # of file names that are not UTF-8
    given = list(sys.argv[1:] if args is None else args)
    debug = DEBUG in given
    # OpenCV and FFmpeg would report a broken file on standard error besides our own line
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    options = parse(given)
    try:
        with _ignored_interrupts_return():
            status = run(options)
        if sys.stdout is not None:  # it may be closed
            sys.stdout.flush()
    except BrokenPipeError:
        # The interpreter flushes standard output at exit, which would fail once more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except TerminatedError:
        report(name, "ended by SIGTERM")
        return TERMINATED
    except KeyboardInterrupt:
        report(name, "interrupted")
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 (the one place where errors become lines)
        if debug:
            traceback.print_exc()
        report(name, error_line(error))
        return WRONG_CALL if _is_out_of_range(error) else FAILED
    return status


@contextmanager
def _ignored_interrupts_return() -> Iterator[None]:
    """Sends a signal once more whose exception Python ignored.

    It ignores what is raised where an object is deleted, an interrupt too.
    """
    before = sys.unraisablehook
    timers: list[threading.Timer] = []

    def hook(ignored: sys.UnraisableHookArgs) -> None:
        if not isinstance(ignored.exc_value, KeyboardInterrupt):
            before(ignored)
            return
        is_terminated = isinstance(ignored.exc_value, TerminatedError)
        number = signal.SIGTERM if is_terminated else signal.SIGINT
        # not at once: it would be raised in this hook
        timers.append(threading.Timer(_SOON_S, _send_to_main_thread, [number]))
        timers[-1].start()

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before
        for timer in timers:
            timer.cancel()


def _send_to_main_thread(signum: int) -> None:
    """Ends what the thread waits for, which a signal to another thread would not."""
    ident = threading.main_thread().ident
    if ident is not None and hasattr(signal, "pthread_kill"):
        signal.pthread_kill(ident, signum)
    else:  # Windows
        signal.raise_signal(signum)


class TerminatedError(KeyboardInterrupt):
    """SIGTERM, where it ends the work as Ctrl-C does."""


@contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """Lets SIGTERM raise `TerminatedError`, so that a run completes its files."""

    def stop(signum: int, frame: FrameType | None) -> None:
        raise TerminatedError

    if threading.current_thread() is not threading.main_thread():  # which alone has signals
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _is_out_of_range(error: Exception) -> bool:
    """Whether it is about a value that the user gave, which only the work itself could check."""
    from igcv3det.config import RangeError

    return isinstance(without_parser(error), RangeError)


def report(name: str, reason: object) -> None:
    """Writes ``COMMAND: reason`` on standard error; a script of ``tools/`` goes by its own name."""
    tool = TOOLS.get(name, name.replace("-", "_"))
    shown = tool if Path(sys.argv[0]).name == f"{tool}.py" else name
    print(f"{shown}: {reason}", file=sys.stderr)
