"""A line on the terminal that says how far a command is and how long it still takes."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from igcv3det.cli.command import report

_MIN_INTERVAL_S = 0.2
_CLEAR = "\r\x1b[K"


class Progress:
    """Rewrites one line of standard error; writes nothing where that is no terminal."""

    def __init__(self) -> None:
        self._is_terminal = sys.stderr.isatty()
        self._shown_at = 0.0
        self._is_shown = False

    def show(self, text: str, done: int, total: int | None, started: float) -> None:
        """Shows the state, at most five times a second.

        Args:
            text: what is being done.
            done: how much of it.
            total: of how much; None if that is not known.
            started: `time.monotonic` when nothing of it was done.
        """
        now = time.monotonic()
        if not self._is_terminal or now - self._shown_at < _MIN_INTERVAL_S:
            return
        line = f"{text} {state(done, total, now - started)}"
        print(f"{_CLEAR}{line}", end="", file=sys.stderr, flush=True)
        self._shown_at, self._is_shown = now, True

    def clear(self) -> None:
        """Removes the line, so that other text can be written."""
        if self._is_shown:
            print(_CLEAR, end="", file=sys.stderr, flush=True)
            self._is_shown = False


@contextmanager
def counting(text: str, total: int) -> Iterator[Callable[[int], None]]:
    """Shows how many of ``total`` are done while a command runs; yields what takes the number.

    Args:
        text: what is being done.
        total: of how many.
    """
    line, started = Progress(), time.monotonic()
    try:
        yield lambda done: line.show(text, done, total, started)
    finally:
        line.clear()


@contextmanager
def counting_up(text: str) -> Iterator[Callable[[int, int], None]]:
    """As `counting`, for totals that are known later; yields what takes a number and its total.

    A number that is not above the last one begins a new count.

    Args:
        text: what is being done.
    """
    line, started, last = Progress(), time.monotonic(), 0

    def show(done: int, total: int) -> None:
        nonlocal started, last
        if done <= last:
            started = time.monotonic()
        last = done
        line.show(text, done, total, started)

    try:
        yield show
    finally:
        line.clear()


class ReportedWarnings(logging.Handler):
    """While it is entered, warnings of the package are lines of a command, clear of its progress.

    Args:
        command: name of the command.
        progress: its line is removed first.
    """

    def __init__(self, command: str, progress: Progress) -> None:
        super().__init__(logging.WARNING)
        self._command, self._progress = command, progress

    def emit(self, record: logging.LogRecord) -> None:
        """Writes a warning."""
        self._progress.clear()
        report(self._command, record.getMessage())

    def __enter__(self) -> Self:
        logging.getLogger("igcv3det").addHandler(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        logging.getLogger("igcv3det").removeHandler(self)


def state(done: int, total: int | None, seconds: float) -> str:
    """How much is done, how fast, and the time left.

    Example:
        >>> state(30, 120, 60.0), state(30, None, 1.5)
        ('30 of 120, 0.5/s, 3:00 left', '30, 20.0/s')
        >>> state(1, 7201, 1.0)
        '1 of 7201, 1.0/s, 2:00:00 left'
    """
    speed = done / seconds if seconds > 0 else 0.0
    known = f"{done} of {total}" if total else f"{done}"
    line = f"{known}, {speed:.1f}/s"
    if total and speed > 0:
        minutes, rest = divmod(round(max(total - done, 0) / speed), 60)
        hours, minutes = divmod(minutes, 60)
        line += f", {hours}:{minutes:02}:{rest:02} left" if hours else f", {minutes}:{rest:02} left"
    return line
