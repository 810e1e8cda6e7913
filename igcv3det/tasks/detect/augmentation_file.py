"""A user's own augmentation: a file in albumentations' serialisation, checked to keep boxes.

``albumentations.save(pipeline, "augmentation.json")`` writes such a file, and as YAML with
``data_format="yaml"``. What it says about boxes (least area, visibility and sides) is used; format
and label fields are this package's.
"""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import albumentations
from albumentations.core.composition import BaseCompose
from albumentations.core.serialization import (
    SERIALIZABLE_REGISTRY,
    register_additional_transforms,
    shorten_class_name,
)
from albumentations.core.type_definitions import Targets

from igcv3det.tasks.detect.own_augmentation import (
    OwnAugmentation,
    one_line,
    try_boxes,
    try_images,
    with_boxes,
)
from igcv3det.yaml_files import read_yaml

NAME = "__class_fullname__"
BOX_LIMITS = ("min_area", "min_visibility", "min_width", "min_height", "max_accept_ratio")
"""Fields of ``bbox_params`` that are taken from the file."""
CHECKED_SIZE = (480, 640)
"""(height, width) of the image that a pipeline is tried on, pixels."""
_NORMALISES = ("Normalize", "ToFloat", "ToTensorV2", "ToTensor3D")


def load_augmentation(
    path: str | Path, sizes: Sequence[tuple[int, int]] = (CHECKED_SIZE,)
) -> OwnAugmentation:
    """Reads a pipeline and tries it.

    Args:
        path: a JSON or YAML file.
        sizes: (height, width) of images that it must work on, pixels; none only reads it.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: not albumentations' serialisation, an unknown transform or argument, or a
            pipeline that does not keep boxes; the message names file and field.
    """
    path = Path(path)
    content = read_yaml(path)
    root = content.get("transform") if isinstance(content, dict) else None
    if not isinstance(root, dict) or NAME not in root:
        raise ValueError(
            f"{path}: no pipeline: expects what albumentations.save writes, a mapping 'transform' "
            f"with {NAME!r}"
        )
    register_additional_transforms()
    for field in ("keypoint_params", "additional_targets"):
        if root.get(field):
            raise ValueError(f"{path}: transform.{field}: the data has images and boxes only")
    for field, node in _nodes(root, "transform", path):
        _check_node(field, node, path)
    own = OwnAugmentation(_built(_plain(root)), _box_limits(root, path), path)
    for size in sizes:
        try_images(own, size)
    if sizes:
        try_boxes(own._replace(steps=_built(_geometry(_plain(root)))), sizes[0])
    return own


def _nodes(node: Any, field: str, path: Path) -> Iterator[tuple[str, dict[str, Any]]]:  # noqa: ANN401
    """A transform and all that it composes, with the place of each in the file."""
    if not isinstance(node, dict) or not isinstance(node.get(NAME), str):
        raise ValueError(f"{path}: {field}: no transform: a mapping with {NAME!r} is needed")
    yield field, node
    inner = node.get("transforms", [])
    if not isinstance(inner, list):
        raise ValueError(f"{path}: {field}.transforms must be a list")
    for index, child in enumerate(inner):
        yield from _nodes(child, f"{field}.transforms[{index}]", path)


def _check_node(field: str, node: Mapping[str, Any], path: Path) -> None:
    """Raises ValueError for a transform that does not exist, or cannot be used with boxes."""
    name = shorten_class_name(node[NAME])
    place = f"{path}: {field}"
    kind = SERIALIZABLE_REGISTRY.get(name)
    if kind is None:
        near = difflib.get_close_matches(name, SERIALIZABLE_REGISTRY, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ValueError(f"{place}: albumentations has no transform {name!r}{hint}")
    if issubclass(kind, BaseCompose):
        if field != "transform" and node.get("bbox_params"):
            raise ValueError(f"{place}.bbox_params: of the outermost composition only")
        return
    if name in _NORMALISES:
        raise ValueError(f"{place}: leave out {name}: the detector normalises the image itself")
    targets = getattr(kind, "_targets", ())
    keeps = issubclass(kind, albumentations.ImageOnlyTransform) or (
        issubclass(kind, albumentations.DualTransform)
        and Targets.BBOXES in (targets if isinstance(targets, tuple) else (targets,))
    )
    if not keeps:
        raise ValueError(f"{place}: {name} does not move boxes with the image")
    try:
        transform = _built(node)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{place} ({name}): {one_line(error)}") from error
    # what albumentations itself writes is an argument, even where it warns of it (PadIfNeeded)
    if unknown := sorted(node.keys() - transform.to_dict_private().keys()):
        raise ValueError(f"{place} ({name}): no argument {', '.join(unknown)}")
    needed = set(transform.targets_as_params) - {"image", "bboxes"}
    if needed:
        hint = "; --data.mosaic has mosaics" if name == "Mosaic" else ""
        raise ValueError(f"{place}: {name} needs {', '.join(sorted(needed))}{hint}")


def _built(node: Mapping[str, Any]) -> Any:  # noqa: ANN401
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of unknown arguments: see `_check_node`
        return albumentations.from_dict({"transform": node})


def _kind(node: Mapping[str, Any]) -> type[Any]:
    kind: type[Any] = SERIALIZABLE_REGISTRY[shorten_class_name(node[NAME])]
    return kind


def _plain(root: Mapping[str, Any]) -> dict[str, Any]:
    """The outermost composition without its own handling of boxes."""
    if not issubclass(
        SERIALIZABLE_REGISTRY[shorten_class_name(root[NAME])], albumentations.Compose
    ):
        return {NAME: "Sequential", "p": 1.0, "transforms": [root]}
    kept = {"transforms": root.get("transforms", []), "p": root.get("p", 1.0)}
    return {NAME: "Sequential", **kept}


def _geometry(node: dict[str, Any]) -> dict[str, Any]:
    """The pipeline with nothing in the place of what only changes colours."""
    if issubclass(_kind(node), albumentations.ImageOnlyTransform):
        return {NAME: "NoOp", "p": node.get("p", 0.5)}
    if "transforms" not in node:
        return node
    return {**node, "transforms": [_geometry(child) for child in node["transforms"]]}


def _box_limits(root: Mapping[str, Any], path: Path) -> dict[str, float]:
    params = root.get("bbox_params") or {}
    try:
        limits = {key: params[key] for key in BOX_LIMITS if params.get(key) is not None}
        with_boxes([albumentations.NoOp()], limits)
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: transform.bbox_params: {one_line(error)}") from error
    for key, value in limits.items():
        if not isinstance(value, (int, float)) or value < 0:
            raise ValueError(f"{path}: transform.bbox_params.{key} must be a number >= 0")
    return limits
