"""Configurations from plain values, and the checks that all configurations share."""

from __future__ import annotations

import dataclasses
import math
import numbers
import types
import typing
from collections.abc import Iterator
from typing import Any, Literal, TypeVar

Config = TypeVar("Config")

LEAST_SIDE, GREATEST_SIDE = 32, 8192
"""Of the input of a detector or segmenter, pixels; at 8192 px the largest map takes 6 GB, with one
image."""
IMAGE_SIDES = f"[{LEAST_SIDE}, {GREATEST_SIDE}]"
"""Interval of its sides."""

CHANNEL_COUNTS = "[1, 65536]"
"""Interval of the channels of a layer: more than any network has, and a layer still fits memory."""
MULTIPLIERS = "(0, 16]"
"""Interval of the width and depth of a network, as shares of the published one's."""


class RangeError(ValueError):
    """A value of an option or a configuration that is out of its range."""


def require(holds: bool, rule: str, value: object) -> None:
    """Raises RangeError with the rule and the value that breaks it."""
    if not holds:
        raise RangeError(f"{rule}, got {value!r}")


def check_fields(config: object, name: str, **intervals: str) -> None:
    """Checks a new configuration: the types of all fields, and the intervals of its numbers.

    Values that mean what the annotation says are converted: lists to tuples, whole numbers to
    ``float`` where one is annotated, NumPy's numbers to Python's. None passes where it is allowed;
    of a tuple each item is checked.

    Args:
        config: a dataclass, frozen or not.
        name: of the configuration, before the field in the message; may be empty.
        intervals: as mathematics writes them, by field: ``"[0, 1)"``, ``"(0, inf)"``.

    Raises:
        RangeError: a value is of another type, outside its choices or its interval, or not finite;
            the message names the field.

    Example:
        >>> @dataclasses.dataclass
        ... class Optim:
        ...     lr: float
        >>> check_fields(Optim(-1), "optim", lr="(0, inf)")
        Traceback (most recent call last):
        igcv3det.config.values.RangeError: optim.lr must be > 0, got -1.0
    """
    hints = typing.get_type_hints(type(config))
    for field in dataclasses.fields(config):  # type: ignore[arg-type]
        key = f"{name}.{field.name}".lstrip(".")
        value = typed_value(hints[field.name], getattr(config, field.name), key)
        object.__setattr__(config, field.name, value)  # the dataclass may be frozen
        if field.name in intervals:
            check_interval(value, intervals[field.name], key)


def check_interval(value: Any, interval: str, key: str) -> None:  # noqa: ANN401
    """Raises RangeError for a number, or one of nested tuples, outside an interval.

    Args:
        value: None has no number.
        interval: such as "(0, 1]" or "[1, inf)".
        key: what the value is called in the error.
    """
    low, high = (float(bound) for bound in interval[1:-1].split(","))
    for number in _numbers(value):
        inside = (low < number if interval[0] == "(" else low <= number) and (
            number < high if interval[-1] == ")" else number <= high
        )
        require(inside, f"{key} must be {_rule(interval)}", value)


def _numbers(value: Any) -> Iterator[float]:  # noqa: ANN401
    if isinstance(value, tuple):
        for item in value:
            yield from _numbers(item)
    elif value is not None:
        yield value


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
        ValueError: a field that ``kind`` does not have, or one without a default that is missing;
            a value outside its choices or of another type.
    """
    require(isinstance(values, dict), f"{where or kind.__name__} must be a mapping", values)
    fields = dataclasses.fields(kind)  # type: ignore[arg-type]
    names = [field.name for field in fields]
    unknown = sorted(set(values) - set(names), key=str)
    if unknown:
        raise ValueError(f"{where or kind.__name__} has no field {unknown}; it has {names}")
    missing = [field.name for field in fields if _is_required(field) and field.name not in values]
    if missing:
        raise ValueError(f"{where or kind.__name__} lacks {missing}")
    prefix = f"{where}." if where else ""
    hints = typing.get_type_hints(kind)
    typed = {key: typed_value(hints[key], value, prefix + key) for key, value in values.items()}
    try:
        return kind(**typed)
    except ValueError as error:
        raise ValueError(_located(str(error), where)) from error


def _is_required(field: dataclasses.Field[Any]) -> bool:
    missing = dataclasses.MISSING
    return field.default is missing and field.default_factory is missing


def _located(rule: str, where: str) -> str:
    """A rule of a configuration, which names its fields, with the whole key of the field.

    Example:
        >>> _located("blocks.stage must be in [1, 7], got 9", "backbone.blocks[3]")
        'backbone.blocks[3].stage must be in [1, 7], got 9'
    """
    name = where.rpartition(".")[2].partition("[")[0]
    if name and rule.startswith(name):
        return where + rule[len(name) :]
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


def typed_value(hint: Any, value: Any, where: str) -> Any:  # noqa: ANN401
    """A plain value as an annotation wants it: lists become tuples, NumPy's numbers Python's.

    Args:
        hint: a number, str, bool, Literal, dataclass, tuple of one kind of item, or one of these
            or None.
        value: as JSON, YAML or Python code give it.
        where: its key, for messages.

    Raises:
        ValueError: the value does not fit; the message names ``where``.

    Example:
        >>> typed_value(tuple[float, ...], [1, 0.5], "ratios")
        (1.0, 0.5)
    """
    origin, options = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        if value is None:
            return None
        (hint,) = (option for option in options if option is not type(None))
        return typed_value(hint, value, where)
    if origin is Literal:
        require(value in options, f"{where} must be one of {list(options)}", value)
        return options[options.index(value)]
    if origin is tuple:
        require(isinstance(value, (list, tuple)), f"{where} must be a list", value)
        if options[-1] is not Ellipsis:
            require(len(value) == len(options), f"{where} must have {len(options)} values", value)
        return tuple(
            typed_value(options[0], item, f"{where}[{n}]" if _is_nested(options[0]) else where)
            for n, item in enumerate(value)
        )
    if dataclasses.is_dataclass(hint):
        if isinstance(value, typing.cast(type, hint)):
            return value
        return config_from_dict(typing.cast(type, hint), value, where)
    if hint in (int, float):
        return _as_number(hint, value, where)
    require(type(value) is hint, f"{where} must be of type {hint.__name__}", value)
    return value


def _is_nested(hint: Any) -> bool:  # noqa: ANN401
    """Items of a list are told apart in messages by their index where they have fields or items."""
    return dataclasses.is_dataclass(hint) or typing.get_origin(hint) is tuple


def _as_number(hint: type, value: Any, where: str) -> int | float:  # noqa: ANN401
    kind, word = (numbers.Integral, "whole ") if hint is int else (numbers.Real, "")
    is_number = isinstance(value, kind) and not isinstance(value, bool)
    require(is_number, f"{where} must be a {word}number", value)
    if hint is float:
        require(_is_finite(value), f"{where} must be a finite number", value)
    return typing.cast(int | float, hint(value))


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number above every float
        return False
