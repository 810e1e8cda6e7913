"""Detectors on disk: files that describe themselves.

A released file is safetensors with JSON metadata: the configuration, the categories and whatever
the releaser adds (source, licence, figures). A Lightning checkpoint carries the same description,
so neither needs the YAML that trained it. A YAML alone gives a detector with random weights.
"""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from igcv3det.config import Config, DetectorConfig, config_from_dict
from igcv3det.datasets.coco_categories import COCO_CATEGORIES
from igcv3det.description import DESCRIPTION, describe, parse_description, read_description
from igcv3det.detector import SSDLite, build_detector
from igcv3det.pretrained import resolve_model

CHECKSUM, STATUS, FIGURES = "weights_sha256", "status", "figures"  # keys of metadata
DETECTOR_PREFIX = "detector."  # of the weights in a Lightning checkpoint
CLASSIFIER_PREFIX = "classifier."


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
        ValueError: another suffix, or metadata under the description's own key.
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
    description = json.dumps(describe_detector(detector))
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path, {DESCRIPTION: description, **(metadata or {})})


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
    if path.suffix in (".yaml", ".yml"):
        config = read_config(path)
        coco = COCO_CATEGORIES if config.num_classes == len(COCO_CATEGORIES) else None
        return build_detector(config, coco).eval()
    weights, description = read_described(path, DETECTOR_PREFIX, "detector")
    detector = _build_described(description, path)
    load_weights(detector, weights, path)
    return detector.eval()


def read_described(path: Path, prefix: str, kind: str) -> tuple[dict[str, Tensor], Any]:
    """The weights of a trained file, and its description as it stands there, unchecked.

    Args:
        path: ``*.safetensors`` or Lightning's ``*.ckpt``.
        prefix: of the weights' names in a checkpoint.
        kind: what the file should hold, for the message.

    Raises:
        ValueError: another ending, or not readable as what the ending says.
    """
    if path.suffix == ".safetensors":
        weights, metadata = read_safetensors(path)
        expected = metadata.get(CHECKSUM)
        if expected is not None and (found := checksum(weights)) != expected:
            raise ValueError(f"{path}: damaged: {CHECKSUM} is {found}, not {expected}")
        return weights, parse_description(metadata.get(DESCRIPTION), path)
    if path.suffix == ".ckpt":
        checkpoint = read_torch(path)
        weights = weights_under(checkpoint.get("state_dict", {}), prefix)
        return weights, checkpoint.get(DESCRIPTION)
    raise ValueError(
        f"{path}: a {kind} is a .safetensors, .ckpt or .yaml file, not {path.suffix!r}"
    )


def read_metadata(path: str | Path) -> dict[str, str]:
    """The texts that `save_detector` was given for this safetensors file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a safetensors file.
    """
    path = existing_file(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata: dict[str, str] = dict(file.metadata() or {})
    except SafetensorError as error:
        raise ValueError(f"{path}: not a readable safetensors file ({error})") from error
    metadata.pop(DESCRIPTION, None)
    return metadata


def read_config(path: str | Path) -> DetectorConfig:
    """The ``model.detector`` part of a YAML configuration.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: not YAML, no such part, or a field that does not fit; names file and field.
    """
    return read_model_config(path, "detector", DetectorConfig)


def read_model_config(path: str | Path, key: str, kind: type[Config]) -> Config:
    """The mapping ``model.<key>`` of a YAML configuration as a dataclass of its own.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: not YAML, no such mapping, or a field that does not fit; names file and field.
    """
    path = existing_file(path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not readable as YAML: {error}") from error
    model = content.get("model") if isinstance(content, dict) else None
    values = model.get(key) if isinstance(model, dict) else None
    if not isinstance(values, dict):
        raise ValueError(f"{path}: has no model.{key} mapping")
    try:
        return config_from_dict(kind, values, f"model.{key}")
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def load_backbone(backbone: nn.Module, path: str | Path) -> None:
    """Loads a pre-trained backbone without its classifier, in place.

    Args:
        backbone: ``detector.backbone``, or a classifier of this package.
        path: torchvision's ``.pth`` of MobileNetV2, a classifier's ``.ckpt``, or ``.safetensors``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: weights that are missing, left over or of another shape, by name.
    """
    path = existing_file(path)
    if path.suffix == ".safetensors":
        weights, _ = read_safetensors(path)
    else:
        content = read_torch(path)
        weights = content.get("state_dict", content)
    for prefix in ("detector.backbone.", "backbone.", "network.", "model."):
        if inner := weights_under(weights, prefix):
            weights = inner
            break
    kept = {k: v for k, v in weights.items() if not k.startswith(CLASSIFIER_PREFIX)}
    expected = backbone.state_dict()
    own = {k: v for k, v in expected.items() if k.startswith(CLASSIFIER_PREFIX)}
    load_weights(backbone, {**own, **kept}, path)


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
    """The weights as a released file has them: float16, counters as they are."""
    return {
        name: value.half() if value.is_floating_point() else value
        for name, value in detector.state_dict().items()
    }


def checksum(weights: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes of all tensors, in the order of their names."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].contiguous().cpu()
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def load_weights(module: nn.Module, weights: dict[str, Tensor], path: Path) -> None:
    """Strictly loads a state dict; every complaint is in one ValueError that names the file."""
    expected = module.state_dict()
    faults = [f"missing {name}" for name in expected.keys() - weights.keys()]
    faults += [f"unknown {name}" for name in weights.keys() - expected.keys()]
    for name in expected.keys() & weights.keys():
        if expected[name].shape != weights[name].shape:
            shapes = f"{tuple(weights[name].shape)}, not {tuple(expected[name].shape)}"
            faults.append(f"{name} has shape {shapes}")
    if faults:
        shown = "; ".join(sorted(faults)[:5])
        more = f"; and {len(faults) - 5} more" if len(faults) > 5 else ""
        raise ValueError(f"{path}: weights do not fit: {shown}{more}")
    module.load_state_dict(weights)


def existing_file(path: str | Path) -> Path:
    """The path, if it is a file.

    Raises:
        FileNotFoundError: there is no such file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    return path


def _build_described(description: Any, path: Path) -> SSDLite:  # noqa: ANN401
    config, categories = read_description(description, path)
    try:
        return build_detector(config, categories)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Weights and texts of a safetensors file.

    Raises:
        ValueError: it is none.
    """
    try:
        with safe_open(path, framework="pt") as file:
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return weights, dict(file.metadata() or {})
    except SafetensorError as error:
        raise ValueError(f"{path}: not a readable safetensors file ({error})") from error


def read_torch(path: Path) -> dict[str, Any]:
    """The mapping that ``torch.save`` wrote; only plain values and tensors are read.

    Raises:
        ValueError: it is none.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        reason = str(error).splitlines()[0] if str(error) else "it ends early"
        raise ValueError(f"{path}: not a readable checkpoint ({reason})") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: holds a {type(content).__name__}, not a mapping of weights")
    return content


def weights_under(weights: dict[str, Any], prefix: str) -> dict[str, Any]:
    """Those whose names begin so, without the beginning."""
    return {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
