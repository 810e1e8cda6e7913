"""Memory that a process may still take."""

from __future__ import annotations

from pathlib import Path

_UNKNOWN_MIB = 16 * 1024.0
_LIMITS = (  # limit, use and statistics of a control group, versions 2 and 1
    ("memory.max", "memory.current", "memory.stat"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat"),
)
_RECLAIMABLE = ("inactive_file", "total_inactive_file")  # the cache of files, which is given back


def free_mib(root: Path = Path("/")) -> float:
    """The machine's free memory or what a container's limit leaves of it, MiB.

    Plenty where the system does not tell.

    Args:
        root: of the file system with ``proc`` and ``sys``.
    """
    free = []
    info = _fields(root / "proc" / "meminfo")
    if "MemAvailable:" in info:
        free.append(info["MemAvailable:"] / 1024)
    for names in _LIMITS:
        limit, used, statistics = (root / "sys" / "fs" / "cgroup" / name for name in names)
        try:
            left = int(limit.read_text()) - int(used.read_text())
        except (OSError, ValueError):  # not in a container, or without a limit ("max")
            continue
        counted = _fields(statistics)
        free.append((left + max(counted.get(name, 0) for name in _RECLAIMABLE)) / 2**20)
    return max(0.0, min(free)) if free else _UNKNOWN_MIB


def _fields(file: Path) -> dict[str, int]:
    """Lines of a name and a number; empty where there is no such file."""
    try:
        lines = [line.split() for line in file.read_text().splitlines()]
    except OSError:
        return {}
    return {words[0]: int(words[1]) for words in lines if len(words) > 1 and words[1].isdigit()}
