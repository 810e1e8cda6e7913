"""Arguments of a training command before its parser sees them: renamed keys, given keys.

Keys are dotted, as on the command line: ``model.optim.lr`` is ``--model.optim.lr`` there and nested
mappings in YAML.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from igcv3det.config import flatten, require
from igcv3det.yaml_files import parse_yaml, read_yaml

logger = logging.getLogger(__name__)

CONFIGS = ("-c", "--config")

Renamed = Mapping[str, str]
"""Old keys to new ones."""


def notify(old: str, renamed: Renamed) -> None:
    """Tells the user that a key has a new name."""
    logger.warning("%s has a new name: %s", old, renamed[old])


def rename_options(args: Sequence[str], renamed: Renamed) -> list[str]:
    """The arguments of a command line with the options' present names.

    Example:
        >>> rename_options(["--images", "3", "--a.b=1"], {"images": "logged_images"})
        ['--logged_images', '3', '--a.b=1']
    """
    words = []
    for word in args:
        key, equals, value = word.removeprefix("--").partition("=")
        if word.startswith("--") and key in renamed:
            notify(key, renamed)
            word = f"--{renamed[key]}{equals}{value}"
        words.append(word)
    return words


def old_keys(content: dict[str, Any], renamed: Renamed) -> list[str]:
    """The keys of a configuration that have a new name; of a renamed mapping, not those in it."""
    found = [old for old in renamed if _has(content, old)]
    return [old for old in found if not any(old.startswith(f"{other}.") for other in found)]


def rename_keys(content: dict[str, Any], renamed: Renamed) -> dict[str, Any]:
    """A configuration with its keys' present names; the one given is not changed.

    Raises:
        ValueError: it has both names of a key.

    Example:
        >>> rename_keys({"images": 3, "model": {"a": 1}}, {"images": "logged_images"})
        {'model': {'a': 1}, 'logged_images': 3}
    """
    for old in old_keys(content, renamed):
        new = renamed[old]
        if _has(content, new):
            raise ValueError(f"{new} is given twice: also under its old name {old}")
        content, value = _taken(content, old.split("."))
        content = _with(content, new.split("."), value)
    return content


def given_values(args: Sequence[str], renamed: Renamed) -> dict[str, Any]:
    """Every key that a command line or its configuration files set, with the value that counts.

    Only what is well formed is collected; the parser reports the rest.

    Args:
        args: of the command line, already renamed.
        renamed: applied to the configuration files.

    Returns:
        Values as YAML reads them, by dotted key.
    """
    values: dict[str, Any] = {}
    for option, text in _options(args):
        try:
            content = read_yaml(text) if option in CONFIGS else parse_yaml(text)
        except (OSError, ValueError):
            continue
        if option in CONFIGS:
            values |= flatten(rename_keys(content, renamed)) if isinstance(content, dict) else {}
        else:
            values |= flatten({option.removeprefix("--"): content})
    return values


def require_counts(given: Mapping[str, Any], *keys: str) -> None:
    """Refuses values that are no counts, before the parser sees them.

    Args:
        given: values by dotted key.
        keys: of numbers of things, of which there is at least one; others are passed over.

    Raises:
        RangeError: a value is no whole number of at least 1.
    """
    for key in keys:
        value = given.get(key, 1)
        is_count = isinstance(value, int) and not isinstance(value, bool) and value >= 1
        require(is_count, f"{key} must be a whole number >= 1", value)


def option_words(options: Mapping[str, Any]) -> list[str]:
    """Words of a command line.

    Example:
        >>> option_words({"data.root": "mine", "early_stopping": 0})
        ['--data.root', 'mine', '--early_stopping', '0']
    """
    words = []
    for key, value in options.items():
        words += [f"--{key}", value if isinstance(value, str) else json.dumps(value)]
    return words


def _options(args: Sequence[str]) -> Iterator[tuple[str, str]]:
    for word, following in zip(args, [*args[1:], ""], strict=False):
        if word.startswith("--") or word in CONFIGS:
            option, equals, value = word.partition("=")
            # --print_config and the like have no value
            yield option, value if equals else "" if following.startswith("--") else following


def _has(content: Any, key: str) -> bool:  # noqa: ANN401
    for name in key.split("."):
        if not isinstance(content, dict) or name not in content:
            return False
        content = content[name]
    return True


def _taken(content: dict[str, Any], names: Sequence[str]) -> tuple[dict[str, Any], Any]:
    """The mapping without a key, and the key's value."""
    first, *rest = names
    if not rest:
        return {name: value for name, value in content.items() if name != first}, content[first]
    inner, value = _taken(content[first], rest)
    return {**content, first: inner}, value


def _with(content: dict[str, Any], names: Sequence[str], value: Any) -> dict[str, Any]:  # noqa: ANN401
    first, *rest = names
    inner = _with(content.get(first) or {}, rest, value) if rest else value
    return {**content, first: inner}
