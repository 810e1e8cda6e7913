import io
import sys

from igcv3det.cli import progress
from igcv3det.cli.progress import counting, counting_up


class Terminal(io.StringIO):
    def isatty(self):
        return True


def count(monkeypatch, stream):
    times = iter(range(100))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(times)))
    monkeypatch.setattr(sys, "stderr", stream)
    with counting("images", 4) as show:
        show(1)
        show(2)
    return stream.getvalue()


def test_a_terminal_shows_the_state_and_the_time_left_and_is_cleared(monkeypatch):
    shown = count(monkeypatch, Terminal()).split("\r\x1b[K")
    assert shown == ["", "images 1 of 4, 1.0/s, 0:03 left", "images 2 of 4, 1.0/s, 0:02 left", ""]


def test_a_file_gets_nothing(monkeypatch):
    assert count(monkeypatch, io.StringIO()) == ""


def test_the_line_is_cleared_after_an_error(monkeypatch):
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    try:
        with counting("images", 4) as show:
            show(3)
            raise ValueError
    except ValueError:
        assert stream.getvalue().endswith("\r\x1b[K")


def test_a_new_count_begins_where_the_number_falls(monkeypatch):
    times = iter(range(100))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(times)))
    monkeypatch.setattr(sys, "stderr", Terminal())
    with counting_up("images") as show:
        for done, total in ((1, 2), (2, 2), (1, 9)):
            show(done, total)
    assert sys.stderr.getvalue().split("\r\x1b[K")[1:] == [
        "images 1 of 2, 1.0/s, 0:01 left",
        "images 2 of 2, 1.0/s, 0:00 left",
        "images 1 of 9, 1.0/s, 0:08 left",
        "",
    ]
