"""A student at the start of its training."""

from __future__ import annotations

import logging
from dataclasses import replace
from operator import attrgetter

from igcv3det.checkpoint import read_trained_config
from igcv3det.config import DetectorConfig
from igcv3det.detector import SSDLite, anchors_at
from igcv3det.tasks.detect.fine_tuning import load_for_fine_tuning
from igcv3det.tasks.distill.config import DistillationConfig
from igcv3det.tasks.distill.morph import morph
from igcv3det.tasks.distill.start import copy_parts, copy_shared_parts, shared_parts

logger = logging.getLogger(__name__)

_SAME_WITHOUT_HEADS = ("num_classes", "preprocess.mean", "preprocess.std")
_SAME = (*_SAME_WITHOUT_HEADS, "head.activation", "variances")


def student_config(
    student: DetectorConfig,
    teacher: DetectorConfig,
    config: DistillationConfig,
    weights: str | None,
) -> DetectorConfig:
    """The student, with the anchors of the input size that its initial weights were trained at.

    Args:
        student: as it is asked for.
        teacher: of the student.
        config: as for `initialise_student`.
        weights: likewise.

    Raises:
        FileNotFoundError, ValueError: from `read_trained_config`.
    """
    if weights is not None:
        source, _ = read_trained_config(weights)
    elif config.start == "random" and "head" not in config.copied:
        return student
    else:
        source = teacher
    size = anchors_at(source, student.image_size).trained_size
    if size is not None:
        logger.info("weights of %d pixels continue at %d", size, student.image_size)
    return replace(student, anchors=replace(student.anchors, trained_size=size))


def require_comparable(
    student: DetectorConfig, teacher: DetectorConfig, name: str, config: DistillationConfig
) -> None:
    """Checks that both read images alike, and class scores and offsets if they are compared.

    Args:
        student: with all values.
        teacher: likewise.
        name: of the teacher, for the message.
        config: which losses there are.

    Raises:
        ValueError: they do not; the message names the key and both values.
    """
    for key in _SAME if config.compares_heads or "head" in config.copied else _SAME_WITHOUT_HEADS:
        own, other = (attrgetter(key)(config) for config in (student, teacher))
        if own != other:
            hint = f": pass --model.detector.{key} {other}" if key == "num_classes" else ""
            raise ValueError(f"model.detector.{key} is {own}, but {name} has {other}{hint}")


def initialise_student(
    student: SSDLite, teacher: SSDLite, config: DistillationConfig, weights: str | None
) -> None:
    """Gives a student its initial weights, in place.

    Args:
        student: of random weights.
        teacher: of the same classes.
        config: what is copied or inserted.
        weights: a trained student, a name or a file, instead of ``config.start``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a file or a part of the teacher does not fit.
    """
    if weights is not None:
        load_for_fine_tuning(student, weights)
    elif config.start == "shared":
        shared = copy_shared_parts(student, teacher)
        if random := [n for n in shared_parts(student) if n in config.frozen and n not in shared]:
            raise ValueError(
                f"distillation.frozen: the teacher's {', '.join(random)} does not fit the student, "
                "whose own would stay random: train it, or start from weights (model.weights)"
            )
        logger.info("copied from the teacher: %s", ", ".join(shared))
    elif config.start == "morph":
        morph(student, teacher)
    copy_parts(student, teacher, config.copied)
