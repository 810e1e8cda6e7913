"""Files that commands write."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from igcv3det.atomic_files import atomic_write
from igcv3det.io.file_set import FileSet


def refuse_overwriting(
    parser: argparse.ArgumentParser,
    options: argparse.Namespace,
    inputs: Iterable[Path | str | None],
    writes: Sequence[str],
) -> None:
    """Ends a call that would write a result over an input, over another result or over a folder.

    Else a folder would be noticed when the result is written, after the work.

    Args:
        parser: of the command; its ``error`` ends the call.
        options: as parsed.
        inputs: files that the command reads; None stands for an option that is not given.
        writes: options that name files to write.
    """
    files = FileSet(Path(path) for path in inputs if path is not None)
    for option in writes:
        file = getattr(options, option)
        if file is None:
            continue
        if file.is_dir():
            parser.error(f"argument --{option}: {file} is a folder; name a file")
        refuse_folder(parser, f"--{option}", file.parent)
        try:
            file.resolve(strict=True)
        except FileNotFoundError:
            pass
        except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle, Python < 3.13
            reason = getattr(error, "strerror", None) or "its symbolic links form a circle"
            parser.error(f"argument --{option}: {file}: {reason}")
        if file in files:
            parser.error(f"argument --{option}: {file} is another file of this run")
        files.add(file)


def refuse_folder(parser: argparse.ArgumentParser, option: str, folder: Path) -> None:
    """Ends a call that would write into a folder of which a part is a file.

    Args:
        parser: of the command; its ``error`` ends the call.
        option: that names the folder or a file in it.
        folder: need not exist.
    """
    place = next((path for path in (folder, *folder.parents) if path.exists()), folder)
    if place.exists() and not place.is_dir():
        parser.error(f"argument {option}: {place} is not a folder")


def write_json(path: Path, value: object) -> None:
    """Writes a value as JSON, as a whole: an error leaves the old content.

    Raises:
        OSError: the file cannot be written.
    """
    write_text(path, json.dumps(value, indent=1))


def write_text(path: Path, text: str, *, durable: bool = False) -> None:
    """Writes a text as a whole: an error leaves the old content.

    Args:
        path: a file, a device, a pipe or standard output.
        text: its content.
        durable: as of `igcv3det.atomic_files.replacing`.

    Raises:
        OSError: the file cannot be written.
    """
    if is_standard_output(path):  # opened anew, a file would be written from its start
        print(text)
    else:
        atomic_write(path, text, durable=durable)


def holds_other(path: Path, text: str) -> bool:
    """Whether a file has other content than this text; pipes and standard output have none.

    Raises:
        OSError: it cannot be read.
    """
    is_kept = path.is_file() and not is_standard_output(path)
    return is_kept and path.read_text(encoding="utf-8", errors="replace") != text


def is_standard_output(path: Path) -> bool:
    """Whether a path, such as ``/dev/stdout``, leads to where this process prints."""
    if sys.stdout is None:  # closed
        return False
    try:
        return os.path.samestat(path.stat(), os.fstat(1))
    except OSError:  # one of them is not there
        return False
