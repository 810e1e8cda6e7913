"""The fuzz program: a short run finds nothing, and what it looks for is found."""

import sys

import pytest

from research import fuzz, model_files

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs fork and SIGALRM")


def test_a_short_run_has_no_failures(capsys, monkeypatch):
    monkeypatch.setattr(model_files, "EXPORTED", ())
    numbers = ["--files", "40", "--images", "30", "--models", "20"]
    assert fuzz.main([*numbers, "--seed", "1"]) == 0
    output = capsys.readouterr().out
    assert "40 annotation files, 30 images, 20 files of detectors, seed 1" in output
    assert "image: read_image: refused" in output
    assert "model: .safetensors: refused" in output
    assert "0 failures" in output


@pytest.mark.slow
def test_damaged_exported_files_are_refused(capsys):
    pytest.importorskip("onnxruntime", reason="needs the extra igcv3det[export]")
    assert fuzz.main(["--files", "0", "--images", "0", "--models", "60"]) == 0
    assert "model: .onnx: refused" in capsys.readouterr().out


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
    numbers = ["--files", "1", "--images", "0", "--models", "0"]
    assert fuzz.main([*numbers, "--keep", str(tmp_path / "kept")]) == 1
    out, err = capsys.readouterr()
    assert problem in err
    assert "file 0 of seed 0" in err
    assert "1 failures" in out
    if "_exit" not in reader:
        (kept,) = (tmp_path / "kept").iterdir()
        assert kept.name.startswith("file-0-")
