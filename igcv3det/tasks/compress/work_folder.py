"""The folder in which a search keeps what is done; one process at a time works there."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from igcv3det.atomic_files import atomic_write, remove_partial

TEMPORARY = "timing-"
"""What names of folders begin with that are removed when a search begins."""
REPORTS = ("report.json", "report.md", "front.png")
"""Ends of the names of a search's results besides networks; see `Search.prefix`."""
_SEARCH = "search.json"
_ENDS = "|".join(map(re.escape, (".safetensors", *REPORTS)))
_RESULTS = re.compile(rf".*({_ENDS})\.[0-9a-f]+\.partial")


class WorkFolder:
    """Plain values of a search, as JSON files.

    Args:
        path: of the folder, which is created. It belongs to this process until `release`, or
            until the process ends.

    Raises:
        BlockingIOError: another process works there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(path / "lock")
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise BlockingIOError(f"{path}: another process is working there") from None
        remove_partial(path)
        for left in path.glob(f"{TEMPORARY}*"):
            shutil.rmtree(left, ignore_errors=True)
        for left in path.parent.glob("*.partial"):
            if _RESULTS.fullmatch(left.name):
                left.unlink(missing_ok=True)

    def release(self) -> None:
        """Lets other processes work there."""
        self._lock.release()

    def read(self, name: str) -> dict[str, Any]:
        """The content of a file, empty where there is none.

        Raises:
            ValueError: it is damaged; the message names it.
        """
        path = self.path / name
        return read_mapping(path) if path.is_file() else {}

    def write(self, name: str, content: Mapping[str, Any]) -> None:
        """Writes a file as a whole."""
        atomic_write(self.path / name, json.dumps(content, indent=1), durable=False)

    def require_same_search(self, wanted: Mapping[str, Any]) -> None:
        """Compares what is wanted with what was searched here, if anything was.

        Paths are not compared: what they lead to is.

        Args:
            wanted: ``checkpoint`` ends with a word for its weights; ``images`` is text for the
                message on ``sizes of images``; the others are compared as they are.

        Raises:
            ValueError: the folder belongs to another search; the message names the difference.
        """
        found = self._search()
        if "checkpoint" not in found and any(self.path.glob("candidates/*")):
            raise ValueError(
                f"{self.path / _SEARCH}: missing or damaged, so nothing says of which search the "
                "candidates beside it are; choose another folder"
            )
        for name, value in wanted.items():
            if name == "images" or _told_by(name, found.get(name, value)) == _told_by(name, value):
                continue
            is_elsewhere = name == "sizes of images" and found.get("images") != wanted["images"]
            shown = "images" if is_elsewhere else name
            raise ValueError(
                f"{self.path.parent}: holds another search ({shown} {found.get(shown)}, not "
                f"{wanted[shown]}); choose another folder"
            )

    def note_search(self, wanted: Mapping[str, Any]) -> None:
        """Makes this the folder of a search; what it was called by first stays."""
        self.write(_SEARCH, {**wanted, **self._search()})

    def _search(self) -> dict[str, Any]:
        """What was searched here; empty where a damaged file, or none, does not tell."""
        try:
            return self.read(_SEARCH)
        except ValueError:  # its advice, to delete the file, would let two searches mix
            return {}


def read_mapping(path: Path) -> dict[str, Any]:
    """The content of one of a search's JSON files.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged; the message names it.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise damaged(path, str(error)) from error
    if not isinstance(content, dict):
        raise damaged(path, "expected a mapping")
    return content


def damaged(path: Path, reason: str) -> ValueError:
    """The error of a file of a search that cannot be used."""
    return ValueError(f"{path}: damaged; delete it, and the next run makes it again: {reason}")


def _told_by(name: str, value: object) -> object:
    """What tells searches apart: the same file may be called otherwise."""
    return str(value).rpartition(" ")[2] if name == "checkpoint" else value
