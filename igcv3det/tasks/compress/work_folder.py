"""The folder in which a search keeps what is done; one process at a time works there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from igcv3det.atomic_files import atomic_write, remove_partial

_SEARCH = "search.json"
_DAMAGED = "damaged; delete it, and the next run makes it again"


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

    def release(self) -> None:
        """Lets other processes work there."""
        self._lock.release()

    def read(self, name: str) -> dict[str, Any]:
        """The content of a file, empty where there is none.

        Raises:
            ValueError: it is damaged; the message names it.
        """
        path = self.path / name
        if not path.is_file():
            return {}
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path}: {_DAMAGED}: {error}") from error
        if not isinstance(content, dict):
            raise ValueError(f"{path}: {_DAMAGED}: expected a mapping")
        return content

    def write(self, name: str, content: Mapping[str, Any]) -> None:
        """Writes a file as a whole."""
        atomic_write(self.path / name, json.dumps(content, indent=1), durable=False)

    def require_same_search(self, wanted: Mapping[str, Any]) -> None:
        """Notes what is searched here, or compares with what was.

        Raises:
            ValueError: the folder belongs to another search; the message names the difference.
        """
        found = self.read(_SEARCH)
        for name, value in wanted.items():
            if found and found.get(name, value) != value:
                raise ValueError(
                    f"{self.path.parent}: holds another search ({name} {found[name]}, not "
                    f"{value}); choose another folder"
                )
        self.write(_SEARCH, {**wanted, **found})
