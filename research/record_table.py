"""Records of a study as a table of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from igcv3det.measure.tables import text_table


def record_table(records: Sequence[Mapping[str, Any]]) -> str:
    """A row for each record, floats with three decimals; all records have the keys of the first."""
    return text_table(list(records[0]), [list(map(_shown, own.values())) for own in records])


def _shown(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
