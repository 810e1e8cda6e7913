"""What networks and their parts cost, as a search keeps it on disk."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from igcv3det.tasks.compress.price import Price
from igcv3det.tasks.compress.work_folder import WorkFolder, damaged

ORIGINAL = "original.json"
_MACHINE = "machine"


class OriginalCosts(NamedTuple):
    """The costs of the original.

    Attributes:
        prices: by runtime and threads.
        machine: on which they were measured; empty where nothing was.
    """

    prices: dict[str, Price]
    machine: str


def read_original(folder: WorkFolder) -> OriginalCosts:
    """What `write_original` wrote; empty where nothing was written.

    Raises:
        ValueError: the file is damaged; the message names it.
    """
    content = folder.read(ORIGINAL)
    machine = content.pop(_MACHINE, None)
    if content and not isinstance(machine, str):
        raise damaged(folder.path / ORIGINAL, f"no {_MACHINE}")
    prices = {key: _price(folder, ORIGINAL, key, value) for key, value in content.items()}
    return OriginalCosts(prices, machine or "")


def write_original(folder: WorkFolder, costs: OriginalCosts) -> None:
    """Replaces the costs of the original."""
    _write(folder, ORIGINAL, costs.prices, {_MACHINE: costs.machine})


def read_prices(folder: WorkFolder, name: str) -> dict[str, Price]:
    """What `write_prices` wrote; empty where nothing was written.

    Raises:
        ValueError: the file is damaged; the message names it.
    """
    return {key: _price(folder, name, key, value) for key, value in folder.read(name).items()}


def write_prices(folder: WorkFolder, name: str, prices: dict[str, Price]) -> None:
    """Replaces the prices of candidates, by their keys."""
    _write(folder, name, prices, {})


def read_shares(folder: WorkFolder, name: str) -> dict[str, float]:
    """A file of positive numbers, such as those of input sizes; empty where it is missing.

    Raises:
        ValueError: the file is damaged; the message names it.
    """
    content = folder.read(name)
    for key, value in content.items():
        if not _is_number(value) or value <= 0:
            raise damaged(folder.path / name, f"{key}: expected a positive number, got {value!r}")
    return {key: float(value) for key, value in content.items()}


def _write(folder: WorkFolder, name: str, prices: dict[str, Price], more: dict[str, Any]) -> None:
    folder.write(name, {key: list(price) for key, price in prices.items()} | more)


def _price(folder: WorkFolder, name: str, key: str, value: object) -> Price:
    count = len(Price._fields)
    if not (isinstance(value, list) and len(value) == count and all(map(_is_number, value))):
        raise damaged(folder.path / name, f"{key}: expected {count} numbers, got {value!r}")
    return Price(*value)


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]
