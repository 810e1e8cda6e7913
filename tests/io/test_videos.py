"""Frames, times and ends of videos; what is written lasts as long as its source."""

import cv2
import numpy as np
import pytest

from igcv3det.io.images import ImageReadError
from igcv3det.io.videos import VideoWriter, read_video

BLACK = np.zeros((32, 48, 3), dtype=np.uint8)
WHITE = np.full((32, 48, 3), 255, dtype=np.uint8)
# 0, 0.1 ... 0.9 s, then 2, 3 ... 6 s
VARIABLE_TIMES = [*(n / 10 for n in range(10)), *range(2, 7)]


class Capture:
    """In the place of OpenCV's reader: grey frames with the properties of a container."""

    times, fps, count = VARIABLE_TIMES, 10.0, len(VARIABLE_TIMES)

    def __init__(self, name):
        self.position = -1

    def read(self):
        self.position += 1
        is_read = self.position < len(self.times)
        return is_read, np.full((32, 48, 3), 128, np.uint8) if is_read else None

    def get(self, key):
        stamp = 1000 * self.times[min(max(self.position, 0), len(self.times) - 1)]
        return {
            cv2.CAP_PROP_FPS: self.fps,
            cv2.CAP_PROP_FRAME_COUNT: self.count,
            cv2.CAP_PROP_POS_MSEC: stamp,
        }[key]

    def release(self):
        pass


@pytest.fixture
def container(tmp_path, monkeypatch):
    """Makes a video file of given times, nominal rate and frame count."""

    def make(times, fps, count):
        for name, value in (("times", times), ("fps", fps), ("count", count)):
            monkeypatch.setattr(Capture, name, value)
        monkeypatch.setattr(cv2, "VideoCapture", Capture)
        (tmp_path / "v.webm").touch()
        return tmp_path / "v.webm"

    return make


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
    frames = list(read_video(video))
    assert [frame.index for frame in frames] == list(range(10))
    assert [frame.time for frame in frames] == pytest.approx([i / 12.5 for i in range(10)])
    assert {frame.fps for frame in frames} == {12.5}
    below = [frame.image[30:].mean() for frame in frames]
    assert below == pytest.approx([20 * i for i in range(10)], abs=12)
    assert frames[0].image[5, 30, 0] > frames[0].image[5, 30, 2] + 100


def test_a_relative_name_with_a_colon(video, monkeypatch):
    monkeypatch.chdir(video.parent)
    assert len(list(read_video(video.rename("a:b%03d.mp4")))) == 10


def test_missing_and_broken_videos(video, tmp_path):
    with pytest.raises(ImageReadError, match=r"missing\.mp4: no such file"):
        list(read_video(tmp_path / "missing.mp4"))
    video.write_bytes(video.read_bytes()[:400])
    with pytest.raises(ImageReadError, match=r"grey\.mp4: not a video that can be read"):
        list(read_video(video))


def test_a_video_that_breaks_off_gives_what_it_has(tmp_path):
    path = tmp_path / "noise.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 64))
    random = np.random.default_rng(0)
    for _ in range(30):
        writer.write(random.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    writer.release()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    frames = []
    with pytest.raises(ImageReadError, match=r"noise\.avi: .*breaks off after 1\.\d of 3\.0 s"):
        frames += read_video(path)
    assert 10 <= len(frames) < 20


@pytest.mark.parametrize(
    ("fps", "count"),
    [(15 / 6.1, 15), (10.0, 61)],
    ids=["MP4: mean rate", "WebM: count of duration * rate"],
)
def test_times_of_a_variable_frame_rate(container, fps, count):
    frames = list(read_video(container(VARIABLE_TIMES, fps, count)))
    assert [frame.time for frame in frames] == VARIABLE_TIMES


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([1.4, 1.5, 1.6], [0, 0.1, 0.2]),
        ([0, 0, 0], [0, 0.1, 0.2]),
        ([0, 0.1, 0], [0, 0.1, 0.2]),
        ([float("nan")] * 3, [0, 0.1, 0.2]),
    ],
    ids=["a later start", "none", "none at the end", "no numbers"],
)
def test_times_of_poor_containers(container, times, expected):
    frames = list(read_video(container(times, 10.0, 3)))
    assert [frame.time for frame in frames] == pytest.approx(expected)


@pytest.mark.parametrize(("fps", "count"), [(0.0, 0), (float("nan"), -1)])
def test_a_video_without_frame_rate_and_count(container, fps, count):
    frames = list(read_video(container([0, 0, 0], fps, count)))
    assert [frame.time for frame in frames] == pytest.approx([0, 1 / 25, 2 / 25])


@pytest.mark.parametrize("fps", [239.763, 66.667, 211.222, 144.0012, 29.97003, 0.001, 1e5, 1e3])
def test_any_frame_rate_can_be_written(tmp_path, fps):
    path = tmp_path / "a.mp4"
    with VideoWriter(path, fps) as writer:
        for _ in range(3):
            writer.write(WHITE)
    frames = list(read_video(path))
    assert len(frames) == 3
    assert frames[0].fps == pytest.approx(min(max(fps, 0.01), 240), rel=1e-3)


def levels(path):
    return [round(frame.image.mean() / 255) for frame in read_video(path)]


def test_a_written_video_keeps_the_times_of_a_variable_frame_rate(tmp_path):
    with VideoWriter(tmp_path / "a.mp4", 4) as writer:
        for time, image in ((0, BLACK), (0.25, WHITE), (1.5, BLACK), (1.6, WHITE), (1.75, BLACK)):
            writer.write(image, time)
    assert levels(tmp_path / "a.mp4") == [0, 1, 1, 1, 1, 1, 0, 1, 0]


def test_long_pauses_are_shortened(tmp_path):
    with VideoWriter(tmp_path / "a.mp4", 1) as writer:
        for time, image in ((0, BLACK), (1e6, WHITE), (1e6 + 2, BLACK)):
            writer.write(image, time)
    assert levels(tmp_path / "a.mp4") == [*[0] * 11, 1, 1, 0]


def test_frames_of_another_size_are_fitted_into_the_first(tmp_path):
    with VideoWriter(tmp_path / "a.mp4", 10) as writer:
        for shape in ((32, 48), (64, 32), (16, 24)):
            writer.write(np.full((*shape, 3), 255, np.uint8))
    first, tall, small = (frame.image for frame in read_video(tmp_path / "a.mp4"))
    assert {image.shape for image in (first, tall, small)} == {(32, 48, 3)}
    assert tall[:, 20:28].mean() > 240  # 16 of 48 pixels wide, in the middle
    assert tall[:, :10].mean() < 15
    assert tall[:, -10:].mean() < 15
    assert small.mean() > 240


def test_a_video_that_cannot_be_written(tmp_path):
    with (
        VideoWriter(tmp_path / "no folder" / "a.mp4", 10) as writer,
        pytest.raises(OSError, match="cannot write this video"),
    ):
        writer.write(BLACK)


def test_a_video_that_is_not_whole_is_an_error(tmp_path):
    def write():
        with VideoWriter(tmp_path / "a.mp4", 10) as video:
            video.write(np.zeros((32, 48, 3), np.uint8))
            (tmp_path / "a.mp4").unlink()  # OpenCV closes it without an error, as on a full disk

    with pytest.raises(OSError, match=r"a\.mp4: cannot write this video"):
        write()
