"""Files that are replaced as a whole."""

import errno
import multiprocessing
import os
import socket
import threading
from pathlib import Path

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


@pytest.mark.parametrize(
    ("number", "message"), [(errno.EROFS, "Read-only file system"), (errno.ENOSPC, "disk is full")]
)
def test_an_error_names_the_file_and_not_the_partial_one(tmp_path, monkeypatch, number, message):
    def fail(partial, content):
        # a write to a full disk names no file
        names = [str(partial)] if number == errno.EROFS else []
        raise OSError(number, os.strerror(number), *names)

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(OSError, match=message) as raised:
        atomic_write(tmp_path / "x.txt", "new")
    assert "x.txt" in str(raised.value)
    assert "partial" not in str(raised.value)


def test_a_file_in_the_place_of_a_folder_is_named(tmp_path):
    (tmp_path / "a").write_text("")
    with pytest.raises(OSError, match=r"a'"):
        atomic_write(tmp_path / "a" / "x.txt", "new")


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


def test_threads_and_containers_replace_one_file(tmp_path, monkeypatch):
    """Each has a file of its own, whatever the number of its process."""
    path = tmp_path / "x.txt"
    monkeypatch.setattr(os, "getpid", lambda: 1)
    with replacing(path) as slow:
        slow.write_text("slow")
        other = threading.Thread(target=atomic_write, args=(path, "quick"))
        other.start()
        other.join()
        assert path.read_text() == "quick"
        assert slow.read_text() == "slow"
    assert path.read_text() == "slow"
    assert list(tmp_path.iterdir()) == [path]


def test_a_partial_file_of_another_writer_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr("secrets.token_hex", lambda count: "00" * count)
    with replacing(tmp_path / "x.txt") as first:
        first.write_text("first")
        with pytest.raises(FileExistsError, match=r"x\.txt'"):
            atomic_write(tmp_path / "x.txt", "second")
        assert first.read_text() == "first"
    assert (tmp_path / "x.txt").read_text() == "first"


@pytest.mark.parametrize("stem", ["a" * 251, "ü" * 125])
def test_names_as_long_as_file_systems_allow(tmp_path, stem):
    atomic_write(tmp_path / f"{stem}.txt", "new")
    assert (tmp_path / f"{stem}.txt").read_text() == "new"


def test_the_target_of_a_link_is_replaced(tmp_path):
    (tmp_path / "there").mkdir()
    target, link = tmp_path / "there" / "x.txt", tmp_path / "link"
    link.symlink_to(Path("there") / "x.txt")
    for text in ("first", "second"):  # a link that leads nowhere yet, and one to a file
        atomic_write(link, text)
        assert link.is_symlink()
        assert target.read_text() == text
    assert [path.name for path in target.parent.iterdir()] == ["x.txt"]


def test_links_in_a_circle_are_named(tmp_path):
    for name, other in (("a", "b"), ("b", "a")):
        (tmp_path / name).symlink_to(other)
    with pytest.raises(OSError, match="symbolic links"):
        atomic_write(tmp_path / "a", "new")


def test_a_pipe_and_an_open_file_are_written_to(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    link = tmp_path / "link"
    link.symlink_to(pipe)
    for path in (pipe, link):
        atomic_write(path, "text")
        assert os.read(reader, 100) == b"text"
    os.close(reader)
    assert pipe.is_fifo()
    assert link.is_symlink()


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="needs /dev/full")
def test_a_device_is_written_to(tmp_path):
    # a device of that number would need rights: the link must not lead to a replaced device
    link = tmp_path / "full"
    link.symlink_to("/dev/full")
    with pytest.raises(OSError, match="full: the disk is full"):
        atomic_write(link, "text")
    assert Path("/dev/full").is_char_device()
    assert link.is_symlink()


def test_a_socket_is_refused(tmp_path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        with pytest.raises(OSError, match=r"neither a file nor a pipe: .*s'"):
            atomic_write(tmp_path / "s", "text")
    assert (tmp_path / "s").is_socket()


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc")
def test_an_open_file_behind_a_link_is_not_replaced(tmp_path):
    link = tmp_path / "out"
    read, write = os.pipe()
    link.symlink_to(f"/proc/self/fd/{write}")
    atomic_write(link, "text")
    assert os.read(read, 100) == b"text"
    assert link.is_symlink()
    os.close(read)
    os.close(write)
