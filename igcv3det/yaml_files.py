"""The one way in which this package reads YAML, whatever the file is for.

PyYAML follows YAML 1.1, where ``1e-3`` is a text and ``2026-01-01`` a date. Here, as in YAML 1.2
and in the command line of training, the first is a number and the second a text.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import yaml

from igcv3det.text_encodings import marked_encoding

_FLOAT_TAG, _DATE_TAG = "tag:yaml.org,2002:float", "tag:yaml.org,2002:timestamp"
_NUMBER = re.compile(
    r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[0-9][0-9_]*[eE][-+]?[0-9]+"
    r"|\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?|\.(?:inf|Inf|INF))$|\.(?:nan|NaN|NAN)$"
)


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with the numbers of YAML 1.2 and without dates."""

    yaml_implicit_resolvers = {  # noqa: RUF012 (of PyYAML's class)
        first: [(tag, pattern) for tag, pattern in pairs if tag not in (_FLOAT_TAG, _DATE_TAG)]
        for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


class _TextLoader(yaml.SafeLoader):
    """PyYAML's safe loader, for which every scalar is a text, and ``<<`` merges."""

    yaml_implicit_resolvers = {  # noqa: RUF012 (of PyYAML's class)
        "<": yaml.SafeLoader.yaml_implicit_resolvers["<"]
    }


class _Dumper(yaml.SafeDumper):
    """Puts those texts in quotes that `_Loader` would take for something else."""


_Loader.add_implicit_resolver(_FLOAT_TAG, _NUMBER, list("-+0123456789."))
_Dumper.yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers


def parse_yaml(text: str) -> Any:  # noqa: ANN401
    """The value of a YAML text.

    Raises:
        ValueError: not YAML; the message names line and column.

    Example:
        >>> parse_yaml("{lr: 1e-3, date: 2026-01-01}")
        {'lr': 0.001, 'date': '2026-01-01'}
    """
    return _parse(text, _Loader)


def _parse(text: str, loader: type[yaml.SafeLoader]) -> Any:  # noqa: ANN401
    try:
        return yaml.load(text, loader)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: of values such as !!int x
        reason = " ".join(str(error).split())
        raise ValueError(f"not readable as YAML: {reason}") from error
    except RecursionError:
        raise ValueError("not readable as YAML: nested too deeply") from None


def read_yaml(path: str | Path) -> Any:  # noqa: ANN401
    """The value of a YAML file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: not YAML, or neither in UTF-8 nor in UTF-16 or UTF-32 with a byte order mark;
            the message names the file.
    """
    return _read(path, _Loader)


def _read(path: str | Path, loader: type[yaml.SafeLoader]) -> Any:  # noqa: ANN401
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    data = path.read_bytes()
    encoding = marked_encoding(data) or "utf-8"
    try:
        return _parse(data.decode(encoding), loader)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        name = encoding.removesuffix("-sig").upper()
        raise ValueError(
            f"{path}: not readable as YAML: line {line} is not text in {name}; save it as UTF-8"
        ) from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def read_yaml_texts(path: str | Path) -> Any:  # noqa: ANN401
    """As `read_yaml`, with every scalar as the text that the file has: a class may be named ``no``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: not YAML, or neither in UTF-8 nor in UTF-16 or UTF-32 with a byte order mark;
            the message names the file.
    """
    return _read(path, _TextLoader)


def dump_inline(value: Any) -> str:  # noqa: ANN401
    """A text of one line that `parse_yaml` reads as the value: for a command line.

    Example:
        >>> dump_inline(["photos", "a, b", "1e3"])
        "[photos, 'a, b', '1e3']"
    """
    return yaml.dump(
        value,
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=True,
        width=math.inf,
    ).rstrip("\n")


def dump_yaml(value: Any) -> str:  # noqa: ANN401
    """A text that `parse_yaml` reads as the value."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
