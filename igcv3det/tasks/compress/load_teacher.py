"""The network of a checkpoint, of whichever kind, as a search takes it."""

from __future__ import annotations

from igcv3det.tasks.compress.detector_teacher import DetectorTeacher
from igcv3det.tasks.compress.segmenter_teacher import SegmenterTeacher
from igcv3det.tasks.compress.teacher import Teacher
from igcv3det.tasks.segment.checkpoint import is_segmenter


def load_teacher(checkpoint: str) -> Teacher:
    """Reads a detector or a segmenter.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is neither, or has a part that no candidates are known for.
    """
    if is_segmenter(checkpoint):
        return SegmenterTeacher.load(checkpoint)
    return DetectorTeacher.load(checkpoint)
