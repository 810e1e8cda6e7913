"""Configurations from plain values, and the checks that all configurations share."""

from __future__ import annotations

import dataclasses
import math
import numbers
import types
import typing
from typing import Any, Literal, TypeVar

Config = TypeVar("Config")

LEAST_SIDE = 32
"""Of the input of a detector or segmenter, pixels."""
IMAGE_SIDES = f"[{LEAST_SIDE}, 8192]"
"""Interval of its sides: at 8192 px the largest map takes 6 GB, with one image."""


class RangeError(ValueError):
    """A value of an option or a configuration that is out of its range."""


def require(holds: bool, rule: str, value: object) -> None:
    """Raises RangeError with the rule and the value that breaks it."""
    if not holds:
        raise RangeError(f"{rule}, got {value!r}")


def require_ranges(config: object, name: str, **intervals: str) -> None:
    """Checks numbers of a configuration; None passes, and of a tuple each item is checked.

    Fields that are annotated as ``int`` take whole numbers only.

    Args:
        config: has the fields.
        name: of the configuration, before the field in the message; may be empty.
        intervals: as mathematics writes them, by field: ``"[0, 1)"``, ``"(0, inf)"``.

    Raises:
        RangeError: a value is no number of that kind, lies outside or is NaN; the message names
            the field.

    Example:
        >>> require_ranges(types.SimpleNamespace(lr=-1), "optim", lr="(0, inf)")
        Traceback (most recent call last):
        igcv3det.config.values.RangeError: optim.lr must be > 0, got -1
    """
    for field, interval in intervals.items():
        value, key = getattr(config, field), f"{name}.{field}".lstrip(".")
        low, high = (float(bound) for bound in interval[1:-1].split(","))
        is_whole = "int" in str(getattr(type(config), "__annotations__", {}).get(field, ""))
        kind = numbers.Integral if is_whole else numbers.Real
        for number in value if isinstance(value, tuple) else (value,):
            if number is None:
                continue
            require(
                isinstance(number, kind),
                f"{key} must be a {'whole ' if is_whole else ''}number",
                value,
            )
            inside = (low < number if interval[0] == "(" else low <= number) and (
                number < high if interval[-1] == ")" else number <= high
            )
            require(inside, f"{key} must be {_rule(interval)}", value)


def _rule(interval: str) -> str:
    """Words for an interval: that without an end is shown as "> 0" or ">= 1"."""
    low, high = (bound.strip() for bound in interval[1:-1].split(","))
    if high == "inf":
        return f"{'>' if interval[0] == '(' else '>='} {low}"
    return f"in {interval}"


def config_from_dict(kind: type[Config], values: dict[str, Any], where: str = "") -> Config:
    """Builds a configuration from nested plain values, as JSON or YAML give them.

    Args:
        kind: a dataclass of plain values.
        values: field names to values; fields left out keep their defaults.
        where: what the values are called in errors ("weights.safetensors: detector").

    Raises:
        ValueError: a field that ``kind`` does not have, a value outside its choices or of another
            type.
    """
    hints = typing.get_type_hints(kind)
    names = [f.name for f in dataclasses.fields(kind)]  # type: ignore[arg-type]
    unknown = sorted(set(values) - set(names))
    if unknown:
        raise ValueError(f"{where or kind.__name__} has no field {unknown}; it has {names}")
    prefix = f"{where}." if where else ""
    fields = {key: _as_type(hints[key], value, prefix + key) for key, value in values.items()}
    try:
        return kind(**fields)
    except ValueError as error:
        raise ValueError(_located(str(error), where)) from error


def _located(rule: str, where: str) -> str:
    """A rule of a configuration, which names its fields, with the whole key of the field."""
    parent, dot, name = where.rpartition(".")
    if name and rule.startswith(name):
        return f"{parent}{dot}{rule}"
    return f"{where}.{rule}" if where else rule


def merge_config(base: Config, changes: dict[str, Any], where: str = "") -> Config:
    """A configuration with some fields changed.

    Args:
        base: a dataclass of plain values.
        changes: nested plain values, as for `config_from_dict`.
        where: what the values are called in errors.

    Raises:
        ValueError: as `config_from_dict`.
    """
    values = dataclasses.asdict(base)  # type: ignore[call-overload]
    return config_from_dict(type(base), _merged(values, changes), where)


def flatten(values: dict[str, Any]) -> dict[str, Any]:
    """Values by dotted key.

    Example:
        >>> flatten({"a": {"b": 1, "c": {"d": 2}}, "e": 3})
        {'a.b': 1, 'a.c.d': 2, 'e': 3}
    """
    flat: dict[str, Any] = {}
    for key, value in values.items():
        inner = flatten(value) if isinstance(value, dict) else {}
        flat |= {f"{key}.{name}": item for name, item in inner.items()} if inner else {key: value}
    return flat


def unflatten(values: dict[str, Any]) -> dict[str, Any]:
    """The inverse of `flatten`.

    Example:
        >>> unflatten({"a.b": 1, "a.c.d": 2, "e": 3})
        {'a': {'b': 1, 'c': {'d': 2}}, 'e': 3}
    """
    nested: dict[str, Any] = {}
    for key, value in values.items():
        *outer, last = key.split(".")
        inner = nested
        for name in outer:
            inner = inner.setdefault(name, {})
        inner[last] = value
    return nested


def _merged(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    merged = dict(values)
    for key, change in changes.items():
        both = isinstance(merged.get(key), dict) and isinstance(change, dict)
        merged[key] = _merged(merged[key], change) if both else change
    return merged


def _as_type(hint: Any, value: Any, where: str) -> Any:  # noqa: ANN401
    """The value as the annotation wants it; one level of optional, tuples, choices and numbers."""
    origin, options = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        if value is None:
            return None
        (hint,) = (option for option in options if option is not type(None))
        return _as_type(hint, value, where)
    if origin is Literal:
        require(value in options, f"{where} must be one of {list(options)}", value)
        return value
    if origin is tuple:
        require(isinstance(value, (list, tuple)), f"{where} must be a list", value)
        if options[-1] is not Ellipsis:
            require(len(value) == len(options), f"{where} must have {len(options)} values", value)
        return tuple(_as_type(options[0], item, where) for item in value)
    if dataclasses.is_dataclass(hint):
        require(isinstance(value, dict), f"{where} must be a mapping", value)
        return config_from_dict(typing.cast(type, hint), value, where)
    if hint is float:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        require(number, f"{where} must be a number", value)
        require(math.isfinite(value), f"{where} must be a finite number", value)
        return float(value)
    require(type(value) is hint, f"{where} must be of type {hint.__name__}", value)
    return value
