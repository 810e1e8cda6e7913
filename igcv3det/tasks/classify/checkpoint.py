"""Classifiers on disk: weights with a description of the network, as in detectors' files."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from igcv3det.checkpoint import load_weights, read_model_config
from igcv3det.config import config_from_dict
from igcv3det.config.values import typed_value
from igcv3det.config_files import SUFFIXES, find_config
from igcv3det.description import DESCRIPTION, FORMAT, require_kind
from igcv3det.tasks.classify.config import ClassifierConfig
from igcv3det.tasks.classify.networks import build_network
from igcv3det.weight_files import existing_file, read_described, write_safetensors

NETWORK_PREFIX = "network."  # of the weights' names in a Lightning checkpoint


class Classifier(NamedTuple):
    """A network and its description.

    Attributes:
        network: normalised images [B, 3, S, S] to logits [B, num_classes].
        config: configuration of the network and its input.
        names: names of the classes.
    """

    network: nn.Module
    config: ClassifierConfig
    names: tuple[str, ...]


def numbered_names(num_classes: int) -> tuple[str, ...]:
    """Names for a network with random weights: "class 0", "class 1", ..."""
    return tuple(f"class {label}" for label in range(num_classes))


def classifier_metadata(config: ClassifierConfig, names: tuple[str, ...]) -> dict[str, Any]:
    """The description that a checkpoint carries, as plain values."""
    return {"format": FORMAT, "classifier": dataclasses.asdict(config), "names": list(names)}


def save_classifier(
    classifier: Classifier, path: str | Path, metadata: dict[str, str] | None = None
) -> None:
    """Writes weights and description as safetensors.

    Args:
        classifier: classifier to save.
        path: file to write; its name ends in ``.safetensors``.
        metadata: additional metadata, such as source and licence.

    Raises:
        ValueError: the file name has another suffix.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"{path}: a saved classifier is a .safetensors file")
    weights = classifier.network.state_dict()
    tensors = {name: value.cpu().contiguous() for name, value in weights.items()}
    description = json.dumps(classifier_metadata(classifier.config, classifier.names))
    write_safetensors(path, tensors, {**(metadata or {}), DESCRIPTION: description})


def load_classifier(path: str | Path) -> Classifier:
    """Reads a classifier, in evaluation mode, on the CPU.

    Args:
        path: ``*.safetensors``, Lightning's ``*.ckpt`` (the averaged weights if it has them), or a
            configuration ``*.yaml``, also by name (random weights).

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is none of these, or weights and description do not match.
    """
    path = Path(path)
    if path.suffix in SUFFIXES:
        path = find_config(path)
        config = read_classifier_config(path)
        network = _built(config, path)
        return Classifier(network.eval(), config, numbered_names(config.num_classes))
    path = existing_file(path)
    weights, description = read_described(path, NETWORK_PREFIX, "classifier")
    config, names = _described(description, path)
    network = _built(config, path)
    load_weights(network, weights, path)
    return Classifier(network.eval(), config, names)


def read_classifier_config(path: str | Path) -> ClassifierConfig:
    """Reads section ``model.classifier`` of a YAML configuration.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: not YAML, no such section, or a wrong field; the message names file and field.
    """
    return read_model_config(path, "classifier", ClassifierConfig)


def _built(config: ClassifierConfig, path: Path) -> nn.Module:
    try:
        return build_network(config)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _described(description: Any, path: Path) -> tuple[ClassifierConfig, tuple[str, ...]]:  # noqa: ANN401
    require_kind(description, "classifier", path)
    try:
        config = config_from_dict(ClassifierConfig, description["classifier"], "classifier")
        names: tuple[str, ...] = typed_value(tuple[str, ...], description["names"], "names")
    except KeyError as error:
        raise ValueError(f"{path}: the description lacks {error}") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if len(names) != config.num_classes:
        raise ValueError(f"{path}: {config.num_classes} classes, but {len(names)} names")
    return config, names
