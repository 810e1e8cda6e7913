"""Files that are replaced as a whole."""

import multiprocessing

import pytest

from igcv3det.atomic_files import atomic_write, replacing


def _write(path, text, ready, go):
    with replacing(path) as partial:
        partial.write_text(text)
        ready.set()
        go.wait(20)


def test_an_error_leaves_the_old_content_and_nothing_else(tmp_path):
    path = tmp_path / "a" / "x.txt"
    atomic_write(path, "old")

    def fail():
        with replacing(path) as partial:
            partial.write_text("new")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


def test_two_processes_replace_one_file(tmp_path):
    """The writer that ends last wins, with its own content as a whole."""
    path = tmp_path / "x.txt"
    context = multiprocessing.get_context("spawn")
    ready, go = context.Event(), context.Event()
    other = context.Process(target=_write, args=(path, "other's", ready, go))
    other.start()
    assert ready.wait(20)
    atomic_write(path, "ours")
    assert path.read_text() == "ours"
    go.set()
    other.join(20)
    assert other.exitcode == 0
    assert path.read_text() == "other's"
    assert list(tmp_path.iterdir()) == [path]
