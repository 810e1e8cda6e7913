"""Detectors on disk: files that describe themselves.

A released file is safetensors with JSON metadata: the configuration, the categories and whatever
the releaser adds (source, licence, figures). A Lightning checkpoint carries the same description,
so neither needs the YAML that trained it. A YAML alone gives a detector with random weights.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from igcv3det.config import BackboneConfig, Config, DetectorConfig, config_from_dict, merge_config
from igcv3det.datasets.coco_categories import COCO_CATEGORIES
from igcv3det.description import (
    DESCRIPTION,
    FREE_IN_FINE_TUNING,
    contradictions,
    describe,
    described_kind,
    read_description,
    starting_config,
)
from igcv3det.detector import SSDLite, build_detector
from igcv3det.pretrained import SUFFIXES_OF_WEIGHTS, resolve_model
from igcv3det.structures import Categories
from igcv3det.weight_files import (
    existing_file,
    parse_file_description,
    read_described,
    read_metadata,
    read_safetensors,
    read_torch,
    state_dict,
    weights_under,
    write_safetensors,
)
from igcv3det.yaml_files import read_yaml

STATUS, FIGURES = "status", "figures"  # keys of metadata
DETECTOR_PREFIX = "detector."  # of the weights in a Lightning checkpoint
CLASSIFIER_PREFIX = "classifier."
YAML_SUFFIXES = (".yaml", ".yml")


def describe_detector(detector: SSDLite) -> dict[str, Any]:
    """The description that makes a checkpoint complete, as plain values."""
    return describe(detector.config, detector.categories)


def save_detector(
    detector: SSDLite,
    path: str | Path,
    metadata: dict[str, str] | None = None,
    *,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Writes weights and description as safetensors.

    Args:
        detector: what to save.
        path: a file name that ends in ``.safetensors``.
        metadata: more text to carry, such as source and licence.
        dtype: of the floating-point weights in the file.

    Raises:
        ValueError: another suffix, metadata under the description's own key, or weights that the
            description does not give, as those of `fastpath.deploy`.
        OSError: the file cannot be written.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"{path}: a released detector is a .safetensors file")
    if metadata and DESCRIPTION in metadata:
        raise ValueError(f"{path}: metadata key {DESCRIPTION!r} is the description's own")
    tensors = {
        name: (value.to(dtype) if value.is_floating_point() else value).cpu().contiguous()
        for name, value in detector.state_dict().items()
    }
    with torch.random.fork_rng(devices=[]):  # random weights of a run in progress stay as they are
        described = build_detector(detector.config, detector.categories)
    try:
        _require_fit(described, tensors, path)
    except ValueError as error:
        raise ValueError(f"{error}; save the detector, not a copy for inference") from error
    description = json.dumps(describe_detector(detector))
    write_safetensors(path, tensors, {DESCRIPTION: description, **(metadata or {})})


def load_detector(model: str | Path) -> SSDLite:
    """Reads a detector, in evaluation mode, on the CPU, in float32.

    Args:
        model: a name of pretrained weights (`pretrained.PRETRAINED`), ``*.safetensors``,
            Lightning's ``*.ckpt`` (averaged weights where it keeps them), or a ``*.yaml`` of
            ``configs/`` (random weights).

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is none of these, its weights are damaged, or weights and description
            do not fit; the message names the file and what is wrong.
    """
    path = existing_file(resolve_model(model))
    if path.suffix in YAML_SUFFIXES:
        config = read_config(path)
        coco = COCO_CATEGORIES if config.num_classes == len(COCO_CATEGORIES) else None
        return _built(config, coco, path).eval()
    weights, description = read_described(path, DETECTOR_PREFIX, "detector")
    detector = _built(*read_description(description, path), path)
    load_weights(detector, weights, path)
    return detector.eval()


def read_trained_config(model: str | Path) -> tuple[DetectorConfig, Categories]:
    """The description of a trained detector, without its weights.

    Args:
        model: a name of pretrained weights, ``*.safetensors`` or Lightning's ``*.ckpt``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file describes no detector; the message names it.
    """
    path = existing_file(resolve_model(model))
    return read_description(parse_file_description(path, "detector"), path)


def read_config(path: str | Path) -> DetectorConfig:
    """The detector of a YAML configuration.

    That is its mapping ``model.detector``. A configuration that starts from trained weights
    (``model.weights``) has their description, changed by that mapping; a mapping that describes a
    backbone, such as that of a run's ``config.yaml``, does without the file.

    Raises:
        FileNotFoundError: there is no such file, or not the one of the weights.
        ValueError: not YAML, no detector, a field that does not fit or contradicts the weights;
            the message names file and field.
    """
    path = existing_file(path)
    model = _model_mapping(path)
    values, weights = model.get("detector") or {}, model.get("weights")
    has_file = weights is not None and resolve_model(weights).is_file()
    if weights is None or (not has_file and "backbone" in values):
        return read_model_config(path, "detector", DetectorConfig)
    try:
        trained, _ = read_trained_config(weights)
        start = starting_config(trained, values.get("image_size"))
        config = merge_config(start, values, "model.detector")
        if conflicts := contradictions(config, trained, FREE_IN_FINE_TUNING):
            raise ValueError(f"model.weights {weights} was trained with {'; '.join(conflicts)}")
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path}: model.weights {error}") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return config


def read_model_config(path: str | Path, key: str, kind: type[Config]) -> Config:
    """The mapping ``model.<key>`` of a YAML configuration as a dataclass of its own.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: not YAML, no such mapping, or a field that does not fit; names file and field.
    """
    values = _model_mapping(existing_file(path)).get(key)
    if not isinstance(values, dict):
        raise ValueError(f"{path}: has no model.{key} mapping")
    try:
        return config_from_dict(kind, values, f"model.{key}")
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _model_mapping(path: Path) -> dict[str, Any]:
    content = read_yaml(path)
    model = content.get("model") if isinstance(content, dict) else None
    return model if isinstance(model, dict) else {}


def load_backbone(
    backbone: nn.Module, path: str | Path, config: BackboneConfig | None = None
) -> None:
    """Loads a pre-trained backbone without its classifier, in place.

    Args:
        backbone: ``detector.backbone``, or a classifier of this package.
        path: torchvision's ``.pth`` of MobileNetV2, a classifier's ``.ckpt``, or ``.safetensors``.
        config: of the backbone; compared with that of the file, if the file describes itself.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: weights that are missing, left over or of another shape, by name, or a field in
            which the backbones differ.
    """
    path = existing_file(path)
    if config is not None and path.suffix in SUFFIXES_OF_WEIGHTS:
        _require_same_backbone(config, parse_file_description(path, "backbone"), path)
    if path.suffix == ".safetensors":
        weights, _ = read_safetensors(path)
    else:
        content = read_torch(path)
        weights = state_dict(content, path, default=content)
    for prefix in ("detector.backbone.", "segmenter.backbone.", "backbone.", "network.", "model."):
        if inner := weights_under(weights, prefix):
            weights = inner
            break
    kept = {k: v for k, v in weights.items() if not k.startswith(CLASSIFIER_PREFIX)}
    expected = backbone.state_dict()
    own = {k: v for k, v in expected.items() if k.startswith(CLASSIFIER_PREFIX)}
    load_weights(backbone, {**own, **kept}, path)


def _require_same_backbone(config: BackboneConfig, description: Any, path: Path) -> None:  # noqa: ANN401
    described = description if isinstance(description, dict) else {}
    network = described.get(described_kind(described) or "")
    if not isinstance(network, dict) or not network.get("backbone"):  # another's file, or an IGCV2
        return
    trained = config_from_dict(BackboneConfig, network["backbone"], f"{path}: backbone")
    own, other = (DetectorConfig(backbone=one) for one in (config, trained))
    if differing := contradictions(own, other):
        raise ValueError(f"{path}: trained with another backbone: {'; '.join(differing)}")


def preview_notice(model: str | Path) -> str | None:
    """One line for the user if the file says that its weights are a preview; None otherwise.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a ``.safetensors`` that cannot be read.
    """
    path = resolve_model(model)
    if path.suffix != ".safetensors":
        return None
    metadata = read_metadata(path)
    if metadata.get(STATUS) != "preview":
        return None
    return f"{path.stem}: the weights are a preview ({metadata.get(FIGURES, 'not measured')})"


def half_weights(detector: SSDLite) -> dict[str, Tensor]:
    """The weights of a released file: float16, except the counters."""
    return {
        name: value.half() if value.is_floating_point() else value
        for name, value in detector.state_dict().items()
    }


def load_weights(module: nn.Module, weights: dict[str, Tensor], path: Path) -> None:
    """Loads a state dict whose names and shapes must be the module's.

    Raises:
        ValueError: they are not; the message names the file and the first of them.
    """
    _require_fit(module, weights, path)
    module.load_state_dict(weights)


def _require_fit(module: nn.Module, weights: dict[str, Tensor], path: Path) -> None:
    expected = module.state_dict()
    misfits = [f"missing {name}" for name in expected.keys() - weights.keys()]
    misfits += [f"unknown {name}" for name in weights.keys() - expected.keys()]
    for name in expected.keys() & weights.keys():
        if not isinstance(weights[name], Tensor):
            misfits.append(f"{name} is no tensor")
        elif expected[name].shape != weights[name].shape:
            shapes = f"{tuple(weights[name].shape)}, not {tuple(expected[name].shape)}"
            misfits.append(f"{name} has shape {shapes}")
    if misfits:
        shown = "; ".join(sorted(misfits)[:5])
        more = f"; and {len(misfits) - 5} more" if len(misfits) > 5 else ""
        raise ValueError(f"{path}: weights do not fit: {shown}{more}")


def _built(config: DetectorConfig, categories: Categories | None, path: Path) -> SSDLite:
    try:
        return build_detector(config, categories)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
