"""Videos with their own times and sound, by PyAV."""

from fractions import Fraction

import numpy as np
import pytest

from igcv3det.io import av_videos
from igcv3det.io.drawing_folder import DrawingFolder
from igcv3det.io.frames import Frame
from igcv3det.io.videos import VideoWriter, read_video

av = pytest.importorskip("av", reason="needs the extra igcv3det[video]")

TIMES = (0.0, 0.04, 0.1, 0.5, 0.54, 1.2)
RATE, TONE = 44100, 441


def image(level, height=48, width=64):
    return np.full((height, width, 3), level, np.uint8)


def write_source(path, sound="aac", seconds=1.3, delay=0.0):
    """A video of variable frame rate with a tone that begins at half of its length."""
    with av.open(str(path), "w") as output:
        video = output.add_stream("mpeg4", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        video.codec_context.time_base = Fraction(1, 1000)
        audio = output.add_stream(sound, rate=RATE, layout="mono") if sound else None
        if audio:
            samples = np.arange(int(seconds * RATE))
            tone = 0.5 * np.sin(2 * np.pi * TONE / RATE * samples) * (samples > len(samples) // 2)
            for start in range(0, len(samples), 1024):
                part = np.ascontiguousarray(tone[None, start : start + 1024].astype(np.float32))
                frame = av.AudioFrame.from_ndarray(part, format="fltp", layout="mono")
                frame.sample_rate, frame.pts = RATE, start
                output.mux(audio.encode(frame))
            output.mux(audio.encode(None))
        for index, time in enumerate(TIMES):
            frame = av.VideoFrame.from_ndarray(image(40 * index), format="rgb24")
            frame.pts, frame.time_base = round(1000 * (time + delay)), Fraction(1, 1000)
            output.mux(video.encode(frame))
        output.mux(video.encode(None))
    return path


def sound_of(path):
    """Codec, samples and the second at which the tone begins."""
    with av.open(str(path)) as video:
        if not video.streams.audio:
            return None
        track = video.streams.audio[0]
        frames = [frame for frame in video.decode(track) if frame.pts is not None]
        begin = float(frames[0].pts * frames[0].time_base)
        samples = np.concatenate([frame.to_ndarray()[0] for frame in frames]).astype(float)
        loud = np.flatnonzero(np.abs(samples) > 0.2 * np.abs(samples).max())
        tone_begin = begin + loud[0] / RATE if len(loud) else None
        return track.codec_context.codec.canonical_name, len(samples) / RATE, tone_begin


def copy(source, path, times=TIMES):
    with av_videos.open_video(path, 25, source) as writer:
        for index, time in enumerate(times):
            writer.write(image(40 * index), time)
    return path


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_variable_frame_rate_survives(tmp_path, suffix):
    source = write_source(tmp_path / f"a{suffix}")
    times = [frame.time for frame in read_video(source)]
    assert times == pytest.approx(TIMES, abs=1e-3)
    with DrawingFolder(tmp_path / "out") as folder:
        for frame in read_video(source):
            path = folder.write(frame, frame.image)
    frames = list(read_video(path))
    assert [frame.time for frame in frames] == pytest.approx(TIMES, abs=1e-3)
    assert [frame.image.mean() for frame in frames] == pytest.approx(
        [40 * n for n in range(len(TIMES))], abs=6
    )


@pytest.mark.parametrize(
    ("name", "codec", "kept"),
    [("a.mp4", "aac", "aac"), ("a.mkv", "mp3", "mp3"), ("a.avi", "pcm_s16le", "aac")],
)
def test_the_sound_is_kept(tmp_path, name, codec, kept):
    copied = copy(write_source(tmp_path / name, codec), tmp_path / "out.mp4")
    name, length, begin = sound_of(copied)
    assert name == kept
    assert length == pytest.approx(TIMES[-1] + 1 / 25, abs=0.06)
    assert begin == pytest.approx(0.65, abs=0.03)


def test_the_sound_of_a_video_that_starts_late(tmp_path):
    """The first frame is at 0.2 s: times count from there, and so does the sound."""
    source = write_source(tmp_path / "a.mkv", delay=0.2)
    assert next(read_video(source)).time == 0
    _, _, begin = sound_of(copy(source, tmp_path / "out.mp4"))
    assert begin == pytest.approx(0.65 - 0.2, abs=0.03)


def test_the_sound_ends_with_the_frames(tmp_path):
    copied = copy(write_source(tmp_path / "a.mp4"), tmp_path / "out.mp4", TIMES[:3])
    assert sound_of(copied)[1] == pytest.approx(0.14, abs=0.03)


@pytest.mark.parametrize("source", ["silent", "none", "missing", "no video"])
def test_without_sound(tmp_path, source, caplog):
    files = {
        "silent": lambda: write_source(tmp_path / "a.mp4", None),
        "none": lambda: None,
        "missing": lambda: tmp_path / "b.mp4",
        "no video": lambda: (tmp_path / "c.mp4").write_bytes(b"hello") and tmp_path / "c.mp4",
    }
    copied = copy(files[source](), tmp_path / "out.mp4")
    assert sound_of(copied) is None
    assert len(list(read_video(copied))) == len(TIMES)
    unreadable = source in ("missing", "no video")
    assert [line.endswith("the sound cannot be read") for line in caplog.messages] == (
        [True] if unreadable else []
    )


def test_frames_of_other_sizes_and_without_times(tmp_path):
    with av_videos.open_video(tmp_path / "a.mp4", 10) as writer:
        for shape in ((49, 65), (48, 64), (100, 20)):
            writer.write(image(200, *shape))
    frames = list(read_video(tmp_path / "a.mp4"))
    assert {frame.image.shape for frame in frames} == {(48, 64, 3)}
    assert [frame.time for frame in frames] == pytest.approx([0, 0.1, 0.2], abs=1e-3)


def test_times_that_do_not_rise(tmp_path):
    with av_videos.open_video(tmp_path / "a.mp4", 10) as writer:
        for time in (0.0, 0.1, 0.1, 0.05, 0.2):
            writer.write(image(90), time)
    times = [frame.time for frame in read_video(tmp_path / "a.mp4")]
    assert len(times) == 5
    assert times == sorted(times)


@pytest.mark.parametrize("shape", [(48, 64), (1, 64)])
def test_what_cannot_be_written_is_named(tmp_path, shape):
    path = tmp_path / "a.mp4"
    if shape == (48, 64):
        path.mkdir()
    for _ in range(2):
        writer = av_videos.open_video(path, 10)
        with pytest.raises(OSError, match=r"a\.mp4: cannot write this video"), writer:
            writer.write(image(90, *shape))


def test_an_error_leaves_a_complete_file(tmp_path):
    def interrupted():
        with av_videos.open_video(tmp_path / "a.mp4", 10, source) as writer:
            for time in (0.0, 0.5):
                writer.write(image(90), time)
            raise KeyboardInterrupt

    source = write_source(tmp_path / "b.mp4")
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert len(list(read_video(tmp_path / "a.mp4"))) == 2


def test_opencv_takes_over_without_pyav(tmp_path, monkeypatch):
    monkeypatch.setattr(av_videos, "has_pyav", lambda: False)
    with av_videos.open_video(tmp_path / "a.mp4", 10) as writer:
        assert isinstance(writer, VideoWriter)
        writer.write(image(90))
    frame = Frame(tmp_path / "b.mp4", image(90), 0, 0.0, 10.0)
    with DrawingFolder(tmp_path / "out") as folder:
        assert folder.write(frame, image(90)).is_file()
