"""Starting from a trained detector, usually of other classes."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import torch
from torch import Tensor

from igcv3det.checkpoint import load_detector
from igcv3det.datasets.category_map import match_names
from igcv3det.description import FREE_IN_FINE_TUNING, contradictions
from igcv3det.detection.anchors import anchors_per_cell
from igcv3det.detector import SSDLite
from igcv3det.structures import Categories

logger = logging.getLogger(__name__)

_OF_LEVEL = re.compile(r"(head\.(?:classification|regression))\.(\d+)\.(.*)")
_OF_STRIDE8 = ("stride8.", "head.classification.0.", "head.regression.0.")


def load_for_fine_tuning(detector: SSDLite, model: str | Path) -> frozenset[str]:
    """Copies a trained detector's weights, in place.

    Classes are matched by name (`datasets.category_map.match_names`): those that both detectors
    have keep their weights, whatever their order and number, and so does the background; the others
    keep their random initialisation and are named in the log. Where no name is shared and the
    number of classes is the same, they are taken in order (they may have been renamed); where the
    number differs, all are reinitialised. In a split class layer (``head.class_ranks``) this is
    about the last 1x1; the one before it keeps its weights.

    The detector may have a map of stride 8 (``anchors.stride8_scale``) that the weights lack: its
    layers are then new, all others keep their weights.

    Args:
        detector: the one to train.
        model: a name of pretrained weights, or a self-describing ``.safetensors`` or ``.ckpt``.

    Returns:
        Names of the layers that are new.

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
            kept = {0: 0, **shared} if shared else {}  # with the background
            weights |= _class_layers(model, detector, source, kept)
    weights = _with_levels_of(detector, weights, source)
    if (detector.stride8 is None) != (source.stride8 is None):
        logger.info(
            "%s: %s a map of stride 8", model, "has" if detector.stride8 is None else "lacks"
        )
    own = detector.state_dict()
    detector.load_state_dict({**own, **weights})
    return frozenset(name.rpartition(".")[0] for name in own.keys() - weights.keys())


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


def _class_layers(
    model: str | Path, detector: SSDLite, source: SSDLite, kept: dict[int, int]
) -> dict[str, Tensor]:
    """The detector's class layers with the trained rows of kept labels, under the source's names.

    Those of a map of stride 8 that one of them does not have are left out.
    """
    own, trained = _with_levels_of(source, detector.state_dict(), detector), source.state_dict()
    columns = detector.head.columns, source.head.columns
    found, moved = {}, 0
    for layer, conv in source.head.class_layers().items():
        if f"head.{layer}.weight" not in own:
            continue
        rows = _same_group(len(own[f"head.{layer}.bias"]) // columns[0], columns, kept, conv.groups)
        moved += sum(int((~own_rows).sum()) for own_rows in rows.values())
        for name in (f"head.{layer}.weight", f"head.{layer}.bias"):
            found[name] = _with_rows(own[name], trained[name], columns, kept, rows)
    if moved:
        logger.info(
            "%s: rows of kept classes reinitialised: %d, which this number of classes puts into "
            "another group of head.class_groups",
            model,
            moved,
        )
    return found


def _same_group(
    anchors: int, columns: tuple[int, int], kept: dict[int, int], groups: int
) -> dict[int, Tensor]:
    """[A] bool by kept label: its row is in the same group of both detectors' class layers.

    A row of another group has weights for other channels.
    """
    cells = torch.arange(anchors)
    own, trained = (cells * count for count in columns)
    return {
        label: (own + label) * groups // (anchors * columns[0])
        == (trained + before) * groups // (anchors * columns[1])
        for label, before in kept.items()
    }


def _with_rows(
    own: Tensor,
    trained: Tensor,
    columns: tuple[int, int],
    kept: dict[int, int],
    taken: dict[int, Tensor],
) -> Tensor:
    """A class layer's weight or bias, [A * (K + 1), ...], with the trained rows of kept labels.

    Args:
        own: of the detector to train.
        trained: of the trained one.
        columns: K + 1 of both.
        kept: the trained one's label by label.
        taken: [A] bool by label, of which anchors.
    """
    rows = own.clone().reshape(-1, columns[0], *own.shape[1:])
    trained_rows = trained.reshape(-1, columns[1], *trained.shape[1:])
    for label, before in kept.items():
        rows[taken[label], label] = trained_rows[taken[label], before]
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
