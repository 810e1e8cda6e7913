"""The configuration files that come with the package.

A clone and an editable install have them in ``configs/`` beside the package; a wheel has them in
the package (``setup.py`` maps the folder).
"""

from __future__ import annotations

import difflib
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
SUFFIXES = (".yaml", ".yml")


def config_folder() -> Path:
    """The folder of the configuration files.

    Raises:
        FileNotFoundError: the installation lacks it.
    """
    for folder in (_PACKAGE / "configs", _PACKAGE.parent / "configs"):
        if folder.is_dir():
            return folder
    raise FileNotFoundError(f"{_PACKAGE}: installed without its configuration files")


def find_config(name: str | Path) -> Path:
    """The file of a configuration that is given by path or by name.

    Args:
        name: a path, or the name of a file in `config_folder`: ``igcv3_shapes``,
            ``cls/cifar10.yaml``, ``configs/igcv3_shapes.yaml``. A file of that path in the
            working directory has precedence.

    Raises:
        FileNotFoundError: there is no such file and no such name; the message lists names.

    Example:
        >>> find_config("igcv3_shapes").name
        'igcv3_shapes.yaml'
    """
    path = Path(name)
    if path.is_file():
        return path
    folder = config_folder()
    inner = path.relative_to("configs") if path.parts[:1] == ("configs",) else path
    for candidate in (inner, inner.with_name(f"{inner.name}.yaml")):
        if not path.is_absolute() and candidate.suffix in SUFFIXES:
            found = folder / candidate
            if found.is_file() and found.resolve().is_relative_to(folder.resolve()):
                return found
    known = config_names()
    names = difflib.get_close_matches(inner.with_suffix("").as_posix(), known) or known
    raise FileNotFoundError(
        f"{path}: no such file; configurations of the package: {', '.join(names)}"
    )


def config_names() -> list[str]:
    """Names of the shipped configurations that `find_config` takes, without suffix."""
    folder = config_folder()
    files = sorted(folder.rglob("*.yaml"), key=lambda file: (len(file.parts), file))
    return [file.relative_to(folder).with_suffix("").as_posix() for file in files]
