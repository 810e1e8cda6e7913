"""Files, folders, patterns and videos, whole and broken."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from coco_files import write_noise

from igcv3det.io.sources import (
    Frame,
    UnreadableSource,
    VideoWriter,
    expand_source,
    read_sources,
)


@pytest.fixture
def folder(tmp_path):
    for name in ("b.png", "a.JPG", "inner/c.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        write_noise(path, 20, 30)
    (tmp_path / "notes.txt").write_text("not an image")
    return tmp_path


def names(items):
    return [item.file.name for item in items]


def test_a_folder_gives_its_own_images_by_name(folder):
    assert names(read_sources([folder])) == ["a.JPG", "b.png"]


def test_patterns(folder):
    assert names(read_sources([f"{folder}/*.png"])) == ["b.png"]
    assert names(read_sources([f"{folder}/**/*.png"])) == ["b.png", "c.png"]


def test_a_name_with_brackets_is_a_name(folder):
    path = write_noise(folder / "x[1].png", 20, 30)
    assert expand_source(str(path)) == [path]


def test_what_cannot_be_read_is_named_and_the_rest_goes_on(folder):
    cut = folder / "cut.jpg"
    cut.write_bytes((folder / "a.JPG").read_bytes()[:200])
    (folder / "empty").mkdir()
    sources = [
        *("missing.jpg", folder / "notes.txt", cut, folder / "empty", f"{folder}/*.gif"),
        folder / "b.png",
    ]
    *bad, good = read_sources(sources)
    assert all(isinstance(item, UnreadableSource) for item in bad)
    for item, source in zip(bad, sources, strict=False):
        assert Path(source).name in item.reason
        assert "\n" not in item.reason
    assert isinstance(good, Frame)
    assert (good.image.shape, good.index, good.time, good.fps) == ((20, 30, 3), None, None, None)


@pytest.fixture
def video(tmp_path):
    path = tmp_path / "grey.mp4"
    with VideoWriter(path, 12.5) as writer:
        for index in range(10):
            image = np.full((48, 64, 3), 20 * index, dtype=np.uint8)
            image[:24, :, 0] = 200
            writer.write(image)
    return path


def test_a_video_gives_its_frames_in_order_and_in_rgb(video):
    frames = list(read_sources([video]))
    assert [frame.index for frame in frames] == list(range(10))
    assert [frame.time for frame in frames] == pytest.approx([i / 12.5 for i in range(10)])
    assert {frame.fps for frame in frames} == {12.5}
    below = [frame.image[30:].mean() for frame in frames]
    assert below == pytest.approx([20 * i for i in range(10)], abs=12)
    assert frames[0].image[5, 30, 0] > frames[0].image[5, 30, 2] + 100


def test_broken_videos(video, tmp_path):
    missing, cut = tmp_path / "missing.mp4", tmp_path / "cut.mp4"
    cut.write_bytes(video.read_bytes()[:400])
    reasons = [item.reason for item in read_sources([missing, cut])]
    assert reasons == [f"{missing}: no such file", f"{cut}: not a video that can be read"]


def test_a_video_that_breaks_off_gives_what_it_has(tmp_path):
    path = tmp_path / "noise.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 64))
    random = np.random.default_rng(0)
    for _ in range(30):
        writer.write(random.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    writer.release()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    *frames, end = read_sources([path])
    assert 0 < len(frames) < 27
    assert f"breaks off after {len(frames)} of 30 frames" in end.reason


def test_a_video_that_cannot_be_written(tmp_path):
    with (
        VideoWriter(tmp_path / "no folder" / "a.mp4", 10) as writer,
        pytest.raises(OSError, match="cannot write this video"),
    ):
        writer.write(np.zeros((16, 16, 3), dtype=np.uint8))
