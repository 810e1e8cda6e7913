"""A student at the start of its training."""

from __future__ import annotations

import logging

from igcv3det.detector import SSDLite
from igcv3det.tasks.detect.fine_tuning import load_for_fine_tuning
from igcv3det.tasks.distill.config import DistillationConfig
from igcv3det.tasks.distill.input_size import adapt_offsets
from igcv3det.tasks.distill.morph import morph
from igcv3det.tasks.distill.start import copy_parts, copy_shared_parts

logger = logging.getLogger(__name__)


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
    size, of_teacher = student.config.image_size, teacher.config.image_size
    trained, copied = size, list(config.copied)
    if weights is not None:
        trained = load_for_fine_tuning(student, weights).image_size
    elif config.start == "shared":
        shared = copy_shared_parts(student, teacher)
        logger.info("copied from the teacher: %s", ", ".join(shared))
        copied += shared
    elif config.start == "morph":
        morph(student, teacher)
        trained = of_teacher
    copy_parts(student, teacher, config.copied)
    trained = of_teacher if "head" in copied else trained
    if trained != size:
        logger.info("box regression of %d pixels adapted to %d", trained, size)
        adapt_offsets(student, trained)
