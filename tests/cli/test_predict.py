"""Options of `igcv3det predict`: classes, NMS, streams, interrupts, progress."""

import json
import os
import signal
import sys

import numpy as np
import pytest
import torch
from coco_files import THREE, save_tiny_detector

import igcv3det.cli.source_run
from igcv3det.cli.predict import main
from igcv3det.cli.progress import Progress
from igcv3det.detection.tiles import MIN_SIZE
from igcv3det.io import av_videos, streams, web, window
from igcv3det.io.images import write_image
from igcv3det.io.videos import VideoWriter, read_video
from igcv3det.predictor import Predictor
from igcv3det.structures import Detections

GREY = np.full((32, 48, 3), 120, np.uint8)


class FakePredictor:
    categories = THREE

    def __call__(self, image, classes=None):
        boxes = torch.tensor([[2.0, 2, 20, 12], [4.0, 4, 40, 30]])
        found = Detections(boxes, torch.tensor([0.9, 0.6]), torch.tensor([1, 3]), THREE)
        if classes is None:
            return found
        return found[torch.isin(found.labels, torch.tensor(THREE.labels_of(classes)))]


@pytest.fixture
def loads(monkeypatch):
    """Arguments with which the predictor was loaded."""
    calls = []
    monkeypatch.setattr(Predictor, "load", lambda *a, **o: calls.append(o) or FakePredictor())
    return calls


@pytest.fixture
def photo(tmp_path):
    write_image(tmp_path / "a.png", GREY)
    return tmp_path / "a.png"


def predict(tmp_path, *args):
    found = tmp_path / "found.json"
    status = main([*map(str, args), "--checkpoint", "fake", "--json", str(found)])
    return status, json.loads(found.read_text()) if found.exists() else None


@pytest.mark.parametrize(
    ("classes", "labels"),
    [("zebra", ["zebra"]), ("7,cat", ["cat", "zebra"]), ("dog", []), (None, ["cat", "zebra"])],
)
def test_classes(loads, photo, tmp_path, classes, labels):
    status, (record,) = predict(tmp_path, photo, *(["--classes", classes] if classes else []))
    assert status == 0
    assert [found["label"] for found in record["detections"]] == labels


def test_an_unknown_class_is_a_wrong_call(loads, photo, tmp_path, capsys):
    assert predict(tmp_path, photo, "--classes", "cat,zebar") == (2, None)
    assert capsys.readouterr().err == (
        "predict: argument --classes: the detector has no class 'zebar'; did you mean 'zebra'?\n"
    )


@pytest.mark.parametrize("classes", ["", " , "])
def test_no_class_is_a_wrong_call(photo, capsys, classes):
    with pytest.raises(SystemExit, match="2"):
        main([str(photo), "--classes", classes])
    assert "argument --classes: must be words like a,b" in capsys.readouterr().err


def test_thresholds_and_tiles_are_the_predictors(loads, photo, tmp_path):
    predict(tmp_path, photo, "--iou", "0.7", "--tile", "320")
    assert loads == [{"score_threshold": 0.3, "iou_threshold": 0.7, "tile": 320}]


def test_a_lower_iou_threshold_leaves_fewer_boxes(tmp_path):
    predictor = Predictor.load(
        save_tiny_detector(tmp_path / "tiny.safetensors"), score_threshold=0.1, iou_threshold=0.95
    )
    other = Predictor.load(tmp_path / "tiny.safetensors", score_threshold=0.1, iou_threshold=0.05)
    assert len(other(GREY)) < len(predictor(GREY))


def test_an_image_in_tiles(tmp_path):
    checkpoint = save_tiny_detector(tmp_path / "tiny.safetensors")
    plain, tiled = Predictor.load(checkpoint), Predictor.load(checkpoint, tile=32)
    image = np.random.default_rng(0).integers(0, 256, (48, 80, 3), dtype=np.uint8)
    few, many = plain(image, threshold=0.1), tiled(image, threshold=0.1)
    assert len(many) > len(few)
    assert many.boxes.max(dim=0).values.tolist() <= [80, 48, 80, 48]
    assert tiled(image[:32, :32]).boxes.tolist() == plain(image[:32, :32]).boxes.tolist()
    with pytest.raises(ValueError, match="tile must be >= 16"):
        Predictor.load(checkpoint, tile=8)


@pytest.mark.parametrize("value", ["0", "1.1", "a"])
def test_iou_thresholds_out_of_range(photo, value):
    with pytest.raises(SystemExit) as stop:
        main([str(photo), "--iou", value])
    assert stop.value.code == 2


@pytest.mark.parametrize("size", [0, MIN_SIZE - 1])
def test_tiles_that_are_too_small(photo, size, capsys):
    with pytest.raises(SystemExit) as stop:
        main([str(photo), "--tile", str(size)])
    assert stop.value.code == 2
    assert f"must be a whole number >= {MIN_SIZE}, got '{size}'" in capsys.readouterr().err


def test_show_without_windows_is_one_line(loads, photo, monkeypatch, capsys):
    monkeypatch.setattr(window, "_why_no_window", lambda: "no window: no display")
    assert main([str(photo), "--checkpoint", "fake", "--show"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "predict: no window: no display"


@pytest.mark.parametrize(("shows", "images"), [(True, 3), (False, 1)])
def test_show_ends_when_the_window_is_closed(loads, tmp_path, monkeypatch, capsys, shows, images):
    monkeypatch.chdir(tmp_path)
    with VideoWriter(tmp_path / "a.mp4", 10) as video:
        for _ in range(3):
            video.write(GREY)

    class FakeWindow:
        def __init__(self, title):
            """Opens nothing."""

        def show(self, image, wait_ms):
            assert (image != GREY).any()
            assert wait_ms == 1
            return shows

        def __enter__(self):
            return self

        def __exit__(self, *error):
            """Closes nothing."""

    monkeypatch.setattr(igcv3det.cli.source_run, "Window", FakeWindow)
    assert main(["a.mp4", "--checkpoint", "fake", "--show"]) == 0
    assert capsys.readouterr().out == f"objects: {2 * images}, images: {images}\n"
    assert not (tmp_path / "runs").exists()


class FakeCamera:
    """Gives grey frames; the one after the last drops the stream or interrupts the run."""

    def __init__(self, frames):
        self.frames = frames

    def read(self):
        self.frames -= 1
        return (True, GREY) if self.frames >= 0 else (False, None)

    def get(self, prop):
        return 0.0

    def release(self):
        """Has nothing to release."""


def test_a_camera_until_it_is_unplugged(loads, tmp_path, monkeypatch, capsys):
    opened = []
    monkeypatch.setattr(
        web, "open_capture", lambda address: opened.append(address) or FakeCamera(3)
    )
    monkeypatch.setattr(streams.read_stream, "__kwdefaults__", {"reopen": None, "delays": ()})
    status, records = predict(tmp_path, "0", "--output", tmp_path / "out")
    assert status == 1
    assert opened[0].camera == 0
    assert records[-1]["file"] == "camera 0"
    assert "the stream ended after 3 frames" in records[-1]["error"]
    assert capsys.readouterr().err == f"predict: {records[-1]['error']}\n"
    assert {(r["file"], r["width"]) for r in records[:-1]} == {("camera 0", 48)}
    assert records[-2]["frame"] == 2
    assert len(list(read_video(tmp_path / "out" / "camera_0.mp4"))) >= len(records) - 1


@pytest.mark.parametrize("by_signal", [False, True], ids=["Ctrl-C", "SIGTERM"])
def test_an_interrupt_leaves_complete_files(loads, tmp_path, monkeypatch, capsys, by_signal):
    monkeypatch.setattr(web, "open_capture", lambda address: FakeCamera(10**9))
    real = FakePredictor.__call__
    calls = []

    def interrupted(self, image):
        calls.append(image)
        if len(calls) == 4 and by_signal:
            os.kill(os.getpid(), signal.SIGTERM)
        elif len(calls) == 4:
            raise KeyboardInterrupt
        return real(self, image)

    monkeypatch.setattr(FakePredictor, "__call__", interrupted)
    status, records = predict(tmp_path, "rtsp://host/yard", "--output", tmp_path / "out")
    assert status == (143 if by_signal else 130)
    assert len(records) == 3
    assert len(list(read_video(tmp_path / "out" / "yard.mp4"))) >= 3
    output = capsys.readouterr()
    assert output.out.startswith("objects: 6, images: 3; results in ")
    assert output.err == f"predict: {'ended by SIGTERM' if by_signal else 'interrupted'}\n"
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_stream_that_drops_is_said(loads, tmp_path, monkeypatch, capsys):
    opened = [FakeCamera(2), FakeCamera(1)]
    monkeypatch.setattr(web, "open_capture", lambda address: opened.pop(0))
    reopen = {"reopen": lambda address: opened.pop(0) if opened else None, "delays": (0,)}
    monkeypatch.setattr(streams.read_stream, "__kwdefaults__", reopen)
    status, records = predict(tmp_path, "rtsp://me:secret@host/yard")
    assert status == 1
    assert records[-2]["frame"] == 2
    assert capsys.readouterr().err.splitlines() == [
        "predict: rtsp://host/yard: no frame after 2; connecting again (1 of 1)",
        "predict: rtsp://host/yard: no frame after 3; connecting again (1 of 1)",
        "predict: rtsp://host/yard: the stream ended after 3 frames, and 1 attempts to connect "
        "again failed",
    ]


def test_progress_is_for_terminals(capsys, monkeypatch):
    Progress().show("files:", 1, 4, 0.0)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr("time.monotonic", lambda: 100.0)
    progress = Progress()
    progress.show("files:", 1, 4, 90.0)
    progress.clear()
    assert capsys.readouterr().err == "\r\x1b[Kfiles: 1 of 4, 0.1/s, 0:30 left\r\x1b[K"


@pytest.fixture
def video(tmp_path):
    with VideoWriter(tmp_path / "v.mp4", 10) as writer:
        for _ in range(4):
            writer.write(GREY)
    return tmp_path / "v.mp4"


@pytest.mark.parametrize(("has_pyav", "lines"), [(True, 0), (False, 1)])
def test_what_is_lost_without_pyav_is_said(
    loads, video, tmp_path, monkeypatch, capsys, has_pyav, lines
):
    monkeypatch.setattr(av_videos, "has_pyav", lambda: has_pyav)
    if has_pyav:
        pytest.importorskip("av", reason="needs the extra igcv3det[video]")
    predict(tmp_path, video, "--output", tmp_path / "out")
    said = "predict: drawn videos lose their sound and have a constant frame rate; "
    assert capsys.readouterr().err.count(said) == lines


def test_tracked_detections_have_ids(loads, video, tmp_path):
    pytest.importorskip("scipy", reason="needs the extra igcv3det[track]")
    table = tmp_path / "found.csv"
    status, records = predict(tmp_path, video, "--track", "--csv", table)
    assert status == 0
    assert loads[0]["score_threshold"] == pytest.approx(0.1)
    assert [[found["id"] for found in record["detections"]] for record in records] == [[1, 2]] * 4
    header, *rows = table.read_text().splitlines()
    assert header.endswith(",x0,y0,x1,y1,id")
    assert [row.rpartition(",")[2] for row in rows] == ["1", "2"] * 4


def test_a_folder_of_frames_is_tracked(loads, tmp_path):
    pytest.importorskip("scipy", reason="needs the extra igcv3det[track]")
    (tmp_path / "frames").mkdir()
    for number in (1, 2, 10):
        write_image(tmp_path / "frames" / f"{number}.png", GREY)
    status, records = predict(tmp_path, tmp_path / "frames", "--every", "2")
    assert status == 0
    assert [record["file"].rpartition("/")[2] for record in records] == ["1.png", "2.png", "10.png"]
    assert {found["id"] for record in records for found in record["detections"]} == {1, 2}


def test_a_tracker_has_a_threshold(photo, tmp_path, capsys):
    for name in ("1.png", "2.png"):
        write_image(tmp_path / "frames" / name, GREY)
    with pytest.raises(SystemExit) as stop:
        main([str(tmp_path / "frames"), "--track", "--threshold", "0"])
    assert stop.value.code == 2
    assert "argument --threshold: must be > 0 with --track" in capsys.readouterr().err


def test_results_are_kept_where_the_folder_cannot_be_made(loads, photo, tmp_path, monkeypatch):
    kept = tmp_path / "found.json"
    kept.write_text("[1]")
    with pytest.raises(SystemExit) as stop:
        predict(tmp_path, photo, "--output", photo / "sub")
    assert stop.value.code == 2

    def full(*_):
        raise OSError("no space left")

    monkeypatch.setattr(igcv3det.cli.source_run, "DrawingFolder", full)
    assert predict(tmp_path, photo, "--output", tmp_path / "drawn") == (1, [1])


@pytest.mark.parametrize("option", ["--track", "--smooth"])
def test_one_image_has_no_tracks(photo, capsys, option):
    with pytest.raises(SystemExit) as stop:
        main([str(photo), option])
    assert stop.value.code == 2
    assert "a.png is one image; give a video or a folder of frames" in capsys.readouterr().err
