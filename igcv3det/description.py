"""What checkpoints and exported files say about themselves: configuration and categories.

The description is JSON under the key ``igcv3det``: in the metadata of safetensors, at the top level
of Lightning's checkpoints, in the metadata of exported graphs.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from igcv3det.config import DetectorConfig, HeadConfig, config_from_dict, flatten
from igcv3det.structures import Categories

DESCRIPTION = "igcv3det"
"""Key of the description in every kind of file."""
FORMAT = 1
KINDS = ("detector", "classifier", "segmenter")
"""Networks that a description can be of; each is the key of its configuration."""
FREE_FIELDS = (
    "num_classes",
    "image_size",
    "anchors.trained_size",
    "preprocess.resize",
    "postprocess.",
    "backbone.dropout",
    "backbone.zero_init",
    "backbone.norm_momentum",
    "head.norm_momentum",
    "head.init_std",
)
"""Beginnings of the fields of `DetectorConfig` that a detector may have otherwise than the one
whose weights it takes; `contradictions` names all others."""
FREE_IN_FINE_TUNING = (
    *FREE_FIELDS,
    *("anchors.shapes", "anchors.stride8_scale", "head.stride8_channels"),
)
"""Those that training from weights may change besides: it adapts to other anchors and to a further
map."""


def describe(config: DetectorConfig, categories: Categories) -> dict[str, Any]:
    """The description of a detector, as plain values."""
    detector = dataclasses.asdict(config)
    # as earlier versions write and read it
    if config.anchors.shapes is None:
        del detector["anchors"]["shapes"]
    if config.anchors.trained_size is None:
        del detector["anchors"]["trained_size"]
    if config.anchors.stride8_scale is None:
        del detector["anchors"]["stride8_scale"]
        if config.head.stride8_channels == HeadConfig.stride8_channels:
            del detector["head"]["stride8_channels"]
    return {
        "format": FORMAT,
        "detector": detector,
        "categories": {"ids": list(categories.ids), "names": list(categories.names)},
    }


def starting_config(trained: DetectorConfig, image_size: object) -> DetectorConfig:
    """The description that a training from weights begins with, where the user gives no other.

    Args:
        trained: the detector of the weights.
        image_size: to train at; None keeps that of the weights.

    Returns:
        That of the weights. At another input size the anchors are shares of it, also where those of
        the weights are pixels of a third size (``anchors.trained_size``): such pixels would leave
        the largest objects without anchors. The image size itself is left to the caller.
    """
    if image_size is None or image_size == trained.image_size:
        return trained
    anchors = dataclasses.replace(trained.anchors, trained_size=None)
    return dataclasses.replace(trained, anchors=anchors)


def contradictions(
    config: DetectorConfig, trained: DetectorConfig, free: tuple[str, ...] = FREE_FIELDS
) -> list[str]:
    """Fields in which a detector differs from the one whose weights it takes.

    With other values of ``FREE_FIELDS`` outputs for the same input stay the same, or, with another
    image size or resizing, come from the same network on other pixels or around other anchors.

    Args:
        config: of the detector.
        trained: of the one that the weights are from.
        free: beginnings of the fields that may differ.

    Returns:
        For each field both values, as messages have them: "padding same, not symmetric".

    Example:
        >>> contradictions(DetectorConfig(padding="same"), DetectorConfig(num_classes=3))
        ['padding symmetric, not same']
    """
    own, other = (flatten(dataclasses.asdict(c)) for c in (config, trained))
    return [
        f"{key} {_shown(value)}, not {_shown(own[key])}"
        for key, value in other.items()
        if own[key] != value and not key.startswith(free)
    ]


def read_description(description: Any, path: Path) -> tuple[DetectorConfig, Categories]:  # noqa: ANN401
    """The configuration and categories that `describe` wrote into a file.

    Args:
        description: the value under ``DESCRIPTION``.
        path: the file, for messages.

    Raises:
        ValueError: no description, another format, a field that is missing or does not fit; the
            message names the file.
    """
    require_kind(description, "detector", path)
    try:
        config = config_from_dict(DetectorConfig, description["detector"])
        categories = config_from_dict(Categories, description["categories"], "categories")
    except KeyError as error:
        raise ValueError(f"{path}: the description lacks {error}") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if len(categories) != config.num_classes:
        raise ValueError(
            f"{path}: num_classes is {config.num_classes}, but there are {len(categories)} "
            "categories"
        )
    return config, categories


def require_kind(description: Any, kind: str, path: Path) -> None:  # noqa: ANN401
    """Checks that a description can be read and is that of one kind of network.

    Args:
        description: the value under ``DESCRIPTION``.
        kind: of ``KINDS``.
        path: the file, for messages.

    Raises:
        ValueError: no description, another format, or another kind.
    """
    if not isinstance(description, dict):
        raise ValueError(
            f"{path}: carries no {DESCRIPTION!r} description: not a file of this package"
        )
    if description.get("format") != FORMAT:
        raise ValueError(
            f"{path}: format {description.get('format')!r}; this version reads {FORMAT}"
        )
    if kind not in description and (held := described_kind(description)) is not None:
        raise ValueError(f"{path}: holds a {held}, and a {kind} is needed here")


def described_kind(description: Any) -> str | None:  # noqa: ANN401
    """The kind of network that a description is of; None where it is of none of ``KINDS``."""
    held = description if isinstance(description, dict) else {}
    return next((kind for kind in KINDS if kind in held), None)


def parse_description(text: str | None, path: Path) -> Any:  # noqa: ANN401
    """The JSON value of a description's text; None where there is no text.

    Raises:
        ValueError: not JSON.
    """
    try:
        return json.loads(text) if text else None
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: its {DESCRIPTION!r} description is not JSON: {error}") from error


def _shown(value: object) -> str:
    if isinstance(value, tuple) and any(isinstance(item, dict) for item in value):
        return f"{len(value)} of its own"
    return str(list(value)) if isinstance(value, tuple) else str(value)
