"""Segmenters on disk: weights with a description of the network, as in detectors' files."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from igcv3det.checkpoint import YAML_SUFFIXES, load_weights, read_model_config
from igcv3det.config import config_from_dict
from igcv3det.config.values import typed_value
from igcv3det.description import DESCRIPTION, FORMAT, described_kind, require_kind
from igcv3det.pretrained import resolve_model
from igcv3det.runtime import EXPORTED_SUFFIXES
from igcv3det.tasks.segment.config import SegmenterConfig
from igcv3det.tasks.segment.masks import ClassLabels
from igcv3det.tasks.segment.network import Segmenter, numbered_names
from igcv3det.weight_files import (
    existing_file,
    parse_file_description,
    read_described,
    write_safetensors,
)
from igcv3det.yaml_files import read_yaml

SEGMENTER_PREFIX = "segmenter."
"""Of the weights' names in a Lightning checkpoint."""
KIND = "segmenter"
_DESCRIBES = re.compile(rb'(?:"|&quot;)segmenter(?:"|&quot;): \{')


def describe_segmenter(config: SegmenterConfig, classes: ClassLabels) -> dict[str, Any]:
    """The description that makes a checkpoint complete, as plain values."""
    return {
        "format": FORMAT,
        KIND: dataclasses.asdict(config),
        "classes": {name: list(value) for name, value in classes._asdict().items()},
    }


def read_segmenter_description(
    description: Any,  # noqa: ANN401
    path: Path,
) -> tuple[SegmenterConfig, ClassLabels]:
    """The configuration and classes that `describe_segmenter` wrote into a file.

    Raises:
        ValueError: no description, that of another kind of network, or one that does not fit.
    """
    require_kind(description, KIND, path)
    try:
        config = config_from_dict(SegmenterConfig, description[KIND], KIND)
        held = typed_value(dict, description["classes"], "classes")
        classes = ClassLabels(
            labels=typed_value(tuple[int, ...], held["labels"], "classes.labels"),
            ignored=typed_value(tuple[int, ...], held["ignored"], "classes.ignored"),
            names=typed_value(tuple[str, ...], held["names"], "classes.names"),
        )
    except KeyError as error:
        raise ValueError(f"{path}: the description lacks {error}") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if not len(classes.labels) == len(classes.names) == config.num_classes:
        raise ValueError(f"{path}: {config.num_classes} classes, but {len(classes.names)} names")
    return config, classes


def save_segmenter(
    segmenter: Segmenter,
    classes: ClassLabels,
    path: str | Path,
    metadata: dict[str, str] | None = None,
) -> None:
    """Writes weights and description as safetensors.

    Raises:
        ValueError: the file name has another suffix.
        OSError: the file cannot be written.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"{path}: a saved segmenter is a .safetensors file")
    tensors = {key: value.cpu().contiguous() for key, value in segmenter.state_dict().items()}
    description = json.dumps(describe_segmenter(segmenter.config, classes))
    write_safetensors(path, tensors, {**(metadata or {}), DESCRIPTION: description})


def is_segmenter(model: str | Path | None) -> bool:
    """Whether a file describes a segmenter; False where it cannot be read.

    Args:
        model: any MODEL of the command line; None is the default detector.
    """
    try:
        path = resolve_model(model)
        if path.suffix in YAML_SUFFIXES:
            content = read_yaml(path)
            networks = content.get("model") if isinstance(content, dict) else None
            return isinstance(networks, dict) and KIND in networks
        if path.suffix in EXPORTED_SUFFIXES:
            # a runtime takes long to open a file that may be for another command
            return _DESCRIBES.search(path.read_bytes()) is not None
        return described_kind(parse_file_description(path, KIND)) == KIND
    except (OSError, ValueError):
        return False


def are_segmenters(models: Sequence[str | Path]) -> bool:
    """Whether all of some models are segmenters; False where none is.

    Raises:
        ValueError: one is, and another is not.
    """
    kinds = {str(model): is_segmenter(model) for model in models}
    if len(set(kinds.values())) > 1:
        first = next(model for model, own in kinds.items() if own)
        other = next(model for model, own in kinds.items() if not own)
        raise ValueError(f"{first} is a segmenter and {other} is not: only one kind at a time")
    return any(kinds.values())


def load_segmenter(model: str | Path) -> tuple[Segmenter, ClassLabels]:
    """Reads a segmenter, in evaluation mode, on the CPU.

    Args:
        model: ``*.safetensors``, Lightning's ``*.ckpt`` (averaged weights where it keeps them), or
            a configuration ``*.yaml`` (random weights).

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is none of these, or weights and description do not fit.
    """
    path = existing_file(resolve_model(model))
    if path.suffix in YAML_SUFFIXES:
        config = read_model_config(path, KIND, SegmenterConfig)
        labels = tuple(range(config.num_classes))
        classes = ClassLabels(labels, (), numbered_names(config.num_classes))
        return Segmenter(config, classes.names).eval(), classes
    weights, description = read_described(path, SEGMENTER_PREFIX, KIND)
    config, classes = read_segmenter_description(description, path)
    try:
        segmenter = Segmenter(config, classes.names)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    load_weights(segmenter, weights, path)
    return segmenter.eval(), classes
