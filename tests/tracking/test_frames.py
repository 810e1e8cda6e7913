"""Sequences of frames: videos one after the other, folders, every n-th frame."""

from pathlib import Path

import numpy as np
import pytest
import torch
from coco_files import THREE

from igcv3det.io.addresses import Address
from igcv3det.io.frames import Frame
from igcv3det.structures import Detections
from igcv3det.tracking.frames import FrameTracker

pytest.importorskip("scipy", reason="needs the extra igcv3det[track]")


def moving(image):
    """A detector whose object is where the image's level says."""
    x = float(image[0, 0, 0])
    return Detections(
        torch.tensor([[x, 0, x + 20, 20]]), torch.tensor([0.9]), torch.tensor([1]), THREE
    )


def frame(file, level, index=None):
    image = np.full((40, 60, 3), level, np.uint8)
    return Frame(file, image, index, index and index / 10, None if index is None else 10.0)


def test_each_video_counts_from_one():
    track = FrameTracker(moving, 0.5)
    files = [Path("a.mp4"), Path("a.mp4"), Path("b.mp4"), Path("b.mp4"), Path("b.mp4")]
    levels, indices = [0, 1, 30, 31, 0], [0, 1, 0, 1, 0]
    ids = [track(frame(*one)).ids.tolist() for one in zip(files, levels, indices, strict=True)]
    assert ids == [[1]] * 5


def test_images_of_a_folder_are_a_sequence():
    track = FrameTracker(moving, 0.5)
    files = [Path("a/1.png"), Path("a/2.png"), Path("b/1.png"), Address("http://host/1.png")]
    found = [track(frame(file, 2 * n)) for n, file in enumerate(files)]
    assert [one.ids.tolist() for one in found] == [[1]] * 4
    assert len(track(frame(Path("a/3.png"), 0)).ids) == 1


def test_every_third_frame_is_detected():
    asked = []

    def detect(image):
        asked.append(image[0, 0, 0])
        return moving(image)

    track = FrameTracker(detect, 0.5, every=3)
    for index in range(19):
        found = track(frame(Path("a.mp4"), index, index))
        assert found.ids.tolist() == [1]
    assert asked == [0, 3, 6, 9, 12, 15, 18]
    assert abs(track(frame(Path("a.mp4"), 255, 19)).boxes[0, 0] - 19) < 1


def test_boxes_end_at_the_image_and_leave_with_it():
    track = FrameTracker(moving, 0.5, every=100)
    assert track(frame(Path("a.mp4"), 40, 0)).boxes.tolist() == [[40, 0, 60, 20]]
    track._tracker._tracks.motion.velocity[:, 0] = 5
    assert track(frame(Path("a.mp4"), 0, 1)).boxes.tolist() == [[45, 0, 60, 20]]
    assert track(frame(Path("a.mp4"), 0, 2)).boxes.tolist() == [[50, 0, 60, 20]]
    assert len(track(frame(Path("a.mp4"), 0, 3))) == 0  # a quarter is inside
    assert len(track(frame(Path("a.mp4"), 0, 9))) == 0


def test_arguments_out_of_range():
    with pytest.raises(ValueError, match="every must be >= 1, got 0"):
        FrameTracker(moving, every=0)
