"""Starting from a detector of other classes."""

from __future__ import annotations

import logging
from pathlib import Path

from igcv3det.checkpoint import load_detector
from igcv3det.detector import SSDLite

logger = logging.getLogger(__name__)

CLASS_LAYERS = "head."  # only there may shapes differ, and only through the number of classes


def load_for_fine_tuning(detector: SSDLite, path: Path) -> None:
    """Copies a trained detector's weights, in place.

    Layers of the head whose shape differs because of another number of classes keep their random
    start and are named in the log; all else must fit.

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
    differing = {
        name for name in own.keys() & weights.keys() if own[name].shape != weights[name].shape
    }
    other_classes = source.config.num_classes != detector.config.num_classes
    allowed = {name for name in differing if other_classes and name.startswith(CLASS_LAYERS)}
    misfits = sorted((own.keys() ^ weights.keys()) | (differing - allowed))
    if misfits:
        raise ValueError(
            f"{path}: another architecture than model.detector: {len(misfits)} weights do not fit, "
            f"{misfits[:3]}"
        )
    detector.load_state_dict({**weights, **{name: own[name] for name in allowed}})
    if allowed:
        logger.info(
            "%s: %d classes, not %d; new start for %s",
            path,
            source.config.num_classes,
            detector.config.num_classes,
            ", ".join(sorted(allowed)),
        )
    elif source.categories != detector.categories:
        logger.warning("%s: has as many categories, but other ones", path)
