"""Starting from a detector of other classes."""

from __future__ import annotations

import logging
import re
from pathlib import Path

from torch import Tensor

from igcv3det.checkpoint import load_detector
from igcv3det.detector import SSDLite
from igcv3det.structures import Categories

logger = logging.getLogger(__name__)

CLASS_LAYER = re.compile(r"head\.classification\.\d+\.1\.(weight|bias)")


def load_for_fine_tuning(detector: SSDLite, path: Path) -> None:
    """Copies a trained detector's weights, in place.

    Classes are known by their names: those that both detectors have keep what was learnt of them,
    whatever their order and number, and so does the background; the others begin anew and are
    named in the log. Where no name is shared, as many classes as before are taken in order (they
    may have been renamed), and another number of them begins anew.

    Args:
        detector: the one to train.
        path: a self-describing ``.safetensors`` or ``.ckpt``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: another architecture; the message names file and weights.
    """
    source = load_detector(path)
    weights = source.state_dict()
    own = detector.state_dict()
    class_layers = {name for name in own if CLASS_LAYER.fullmatch(name)}
    other_classes = source.config.num_classes != detector.config.num_classes
    differing = {
        name for name in own.keys() & weights.keys() if own[name].shape != weights[name].shape
    }
    misfits = sorted(
        (own.keys() ^ weights.keys()) | (differing - (class_layers if other_classes else set()))
    )
    if misfits:
        raise ValueError(
            f"{path}: another architecture than model.detector: {len(misfits)} weights do not fit, "
            f"{misfits[:3]}"
        )
    if source.categories.names != detector.categories.names:
        kept = _shared(source.categories, detector.categories)
        _tell(path, source.categories, detector.categories, kept)
        if kept or other_classes:
            if kept:
                kept[0] = 0  # the background
            columns = detector.config.num_classes + 1, source.config.num_classes + 1
            for name in class_layers:
                weights[name] = _with_rows(own[name], weights[name], columns, kept)
    detector.load_state_dict(weights)


def _shared(source: Categories, target: Categories) -> dict[int, int]:
    """Labels of the target to labels of the source, where both have a class of that name."""
    labels = {name: label for label, name in reversed(list(enumerate(source.names, 1)))}
    return {label: labels[name] for label, name in enumerate(target.names, 1) if name in labels}


def _with_rows(
    own: Tensor, trained: Tensor, columns: tuple[int, int], kept: dict[int, int]
) -> Tensor:
    """A class layer's weight or bias, [A * (K + 1), ...], with the trained rows of kept labels."""
    rows = own.clone().reshape(-1, columns[0], *own.shape[1:])
    learnt = trained.reshape(-1, columns[1], *trained.shape[1:])
    for label, before in kept.items():
        rows[:, label] = learnt[:, before]
    return rows.reshape(own.shape)


def _tell(path: Path, source: Categories, target: Categories, kept: dict[int, int]) -> None:
    new = [name for label, name in enumerate(target.names, 1) if label not in kept]
    if not kept and len(source) == len(target):
        logger.warning("%s: none of its classes has the same name here; taken in order", path)
    elif new:
        shown = ", ".join(new[:5]) + (", ..." if len(new) > 5 else "")
        logger.info(
            "%s: %d of %d classes known, new start for %s", path, len(kept), len(target), shown
        )
    else:
        logger.info("%s: all %d classes known", path, len(target))
