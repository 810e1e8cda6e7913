"""Starting from a trained detector, usually of other classes."""

from __future__ import annotations

import logging
import re
from pathlib import Path

from torch import Tensor

from igcv3det.checkpoint import load_detector
from igcv3det.config import DetectorConfig
from igcv3det.datasets.category_map import match_names
from igcv3det.description import FREE_IN_FINE_TUNING, contradictions
from igcv3det.detection.anchors import anchors_per_cell
from igcv3det.detector import SSDLite
from igcv3det.structures import Categories

logger = logging.getLogger(__name__)

CLASS_LAYER = re.compile(r"head\.classification\.\d+\.1\.(weight|bias)")
_OF_LEVEL = re.compile(r"(head\.(?:classification|regression))\.(\d+)\.(.*)")
_OF_STRIDE8 = ("stride8.", "head.classification.0.", "head.regression.0.")


def load_for_fine_tuning(detector: SSDLite, model: str | Path) -> DetectorConfig:
    """Copies a trained detector's weights, in place.

    Classes are matched by name (`datasets.category_map.match_names`): those that both detectors
    have keep their weights, whatever their order and number, and so does the background; the others
    keep their random initialisation and are named in the log. Where no name is shared and the
    number of classes is the same, they are taken in order (they may have been renamed); where the
    number differs, all are reinitialised.

    The detector may have a map of stride 8 (``anchors.stride8_scale``) that the weights lack: its
    layers are then new, all others keep their weights.

    Args:
        detector: the one to train.
        model: a name of pretrained weights, or a self-describing ``.safetensors`` or ``.ckpt``.

    Returns:
        The configuration that the weights were trained with.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the weights belong to another detector (`description.contradictions`); the
            message names the file, the fields and both values.
    """
    source = load_detector(model)
    if differing := contradictions(detector.config, source.config, FREE_IN_FINE_TUNING):
        raise ValueError(f"{model}: trained with another detector: {'; '.join(differing)}")
    counts = [_anchors_per_cell(*pair) for pair in ((detector, source), (source, detector))]
    if counts[0] != counts[1]:
        raise ValueError(
            f"{model}: has {counts[1]} anchors a cell, and anchors.shapes {counts[0]}: the counts "
            "must be the same"
        )
    if source.config.image_size != detector.config.image_size:
        logger.info(
            "%s: trained at %d pixels, continues at %d",
            model,
            source.config.image_size,
            detector.config.image_size,
        )
    weights = source.state_dict()
    if source.categories.names != detector.categories.names:
        shared = match_names(detector.categories, source.categories)
        _log_classes(model, source.categories, detector.categories, shared)
        if shared or len(source.categories) != len(detector.categories):
            own = _with_levels_of(source, detector.state_dict(), detector)
            columns = len(detector.categories) + 1, len(source.categories) + 1
            kept = {0: 0, **shared} if shared else {}  # with the background
            for name in filter(CLASS_LAYER.fullmatch, weights):
                if name not in own:
                    continue  # of a map of stride 8 that the detector does not have
                weights[name] = _with_rows(own[name], weights[name], columns, kept)
    weights = _with_levels_of(detector, weights, source)
    if (detector.stride8 is None) != (source.stride8 is None):
        logger.info(
            "%s: %s a map of stride 8", model, "has" if detector.stride8 is None else "lacks"
        )
    detector.load_state_dict({**detector.state_dict(), **weights})
    return source.config


def _anchors_per_cell(detector: SSDLite, other: SSDLite) -> list[int]:
    """Of the maps that both detectors have."""
    counts = anchors_per_cell(detector.config.anchors, len(detector.feature_sizes))
    return counts[1:] if other.stride8 is None and detector.stride8 is not None else counts


def _with_levels_of(
    target: SSDLite, weights: dict[str, Tensor], source: SSDLite
) -> dict[str, Tensor]:
    """Weights of ``source`` under the names that ``target`` has for the same maps.

    Those of a map of stride 8 are left out unless both have one of as many channels.
    """
    shift = (target.stride8 is not None) - (source.stride8 is not None)
    channels = [one.config.head.stride8_channels for one in (target, source)]
    keeps = source.stride8 is None or (shift == 0 and channels[0] == channels[1])
    return {
        _OF_LEVEL.sub(lambda match: f"{match[1]}.{int(match[2]) + shift}.{match[3]}", name): value
        for name, value in weights.items()
        if keeps or not name.startswith(_OF_STRIDE8)
    }


def _with_rows(
    own: Tensor, trained: Tensor, columns: tuple[int, int], kept: dict[int, int]
) -> Tensor:
    """A class layer's weight or bias, [A * (K + 1), ...], with the trained rows of kept labels."""
    rows = own.clone().reshape(-1, columns[0], *own.shape[1:])
    trained_rows = trained.reshape(-1, columns[1], *trained.shape[1:])
    for label, before in kept.items():
        rows[:, label] = trained_rows[:, before]
    return rows.reshape(own.shape)


def _log_classes(
    model: str | Path, source: Categories, target: Categories, shared: dict[int, int]
) -> None:
    new = [name for label, name in enumerate(target.names, 1) if label not in shared]
    if not shared and len(source) == len(target):
        logger.warning("%s: no class name is shared; its classes are taken in order", model)
    elif new:
        shown = ", ".join(new[:5]) + (", ..." if len(new) > 5 else "")
        logger.info(
            "%s: classification head reinitialised for %d of %d classes: %s",
            model,
            len(new),
            len(target),
            shown,
        )
    else:
        logger.info("%s: classification head of all %d classes kept", model, len(target))
