"""The fuzz program: a short run finds nothing, and what it looks for is found."""

import sys

import pytest

from research import fuzz

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs fork and SIGALRM")


def test_a_short_run_has_no_failures(capsys):
    assert fuzz.main(["--files", "40", "--images", "30", "--seed", "1"]) == 0
    output = capsys.readouterr().out
    assert "40 annotation files, 30 images, seed 1" in output
    assert "image: read_image: refused" in output
    assert "0 failures" in output


@pytest.mark.parametrize(
    ("reader", "problem"),
    [
        ("raise KeyError('x')", "KeyError"),
        ("raise ValueError('no file named')", "message 'no file named'"),
        ("raise ValueError(f'{path}: two\\nlines')", "two"),
        ("import os; os._exit(9)", "exit status 9"),
        ("import time; time.sleep(5)", "TooSlowError"),
    ],
)
def test_failures_are_found(monkeypatch, tmp_path, capsys, reader, problem):
    def broken(path, *args, **options):
        exec(reader, {"path": path})

    monkeypatch.setattr(fuzz, "SECONDS", 1)
    monkeypatch.setattr(fuzz, "load_annotations", broken)
    assert fuzz.main(["--files", "1", "--images", "0", "--keep", str(tmp_path / "kept")]) == 1
    out, err = capsys.readouterr()
    assert problem in err
    assert "file 0 of seed 0" in err
    assert "1 failures" in out
    if "_exit" not in reader:
        (kept,) = (tmp_path / "kept").iterdir()
        assert kept.name.startswith("file-0-")
