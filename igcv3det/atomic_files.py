"""Files that are replaced as a whole, so that a kill or a full disk leaves the old content."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from zlib import crc32

_OPEN_FILES = Path("/proc")
"""Links here are to open files, such as standard output: they are written to, not replaced."""
_MOST_LINKS = 40  # as of Linux
_SHOWN_BYTES = 200  # of a name in that of the partial file: file systems allow 255 bytes


@contextmanager
def replacing(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Gives a path beside ``path`` to write to; that file takes its place when the block ends.

    If the block raises, the file is removed and ``path`` is left untouched. Folders are created.
    Several threads, processes and machines may replace the same file at once: each writes a file of
    its own. Of a symbolic link the target is replaced; a character device or a pipe is written to
    as it is.

    Args:
        path: of the file to create or replace.
        durable: wait until the content is on the disk, so that it survives a power failure.

    Raises:
        OSError: it cannot be written, naming ``path``; a full disk is named as such.
    """
    given, path = path, _linked(path)
    if path.is_relative_to(_OPEN_FILES) or path.is_char_device() or path.is_fifo():
        with _naming(given, path):
            yield path
        return
    if path.is_block_device() or path.is_socket():
        raise OSError(errno.EINVAL, "neither a file nor a pipe", str(given))
    name = os.fsencode(path.name)
    rest = f".{crc32(name):08x}" if len(name) > _SHOWN_BYTES else ""  # tells long names apart
    shown = os.fsdecode(name[:_SHOWN_BYTES])
    # not by process: threads share its number, and so do containers with a common folder
    partial = path.with_name(f"{shown}{rest}.{secrets.token_hex(6)}.partial")
    with _naming(given, partial):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.touch(exist_ok=False)
        try:
            yield partial
            if durable:
                with partial.open("rb+") as file:
                    os.fsync(file.fileno())
            partial.replace(path)
        except BaseException:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
            raise


@contextmanager
def _naming(path: Path, written: Path) -> Iterator[None]:
    """Errors of the file system about ``written``, or a full disk, name ``path``."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OSError(f"{path}: the disk is full, so the file was not written") from error
        if str(error.filename) == str(written):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def _linked(path: Path) -> Path:
    """The place that symbolic links lead to, which need not exist.

    Raises:
        OSError: they form a circle.
    """
    for _ in range(_MOST_LINKS):
        if not path.is_symlink() or path.is_relative_to(_OPEN_FILES):
            return path
        path = path.parent / path.readlink()
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))


def remove_partial(folder: Path) -> None:
    """Removes what killed processes have left of `replacing`, in a folder and below.

    No other process may be writing there.
    """
    for path in folder.rglob("*.partial"):
        path.unlink(missing_ok=True)


def atomic_write(path: Path, content: str | bytes, *, durable: bool = True) -> None:
    """Writes a file as a whole; see `replacing`.

    Raises:
        OSError: it cannot be written; a full disk is named as such.
    """
    with replacing(path, durable=durable) as partial:
        if isinstance(content, str):
            content = content.encode()
        partial.write_bytes(content)
