"""tools/infer.py as a user runs it."""

import csv
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from coco_files import save_tiny_detector, write_noise

from igcv3det.io.images import read_image
from igcv3det.io.records import COLUMNS
from igcv3det.io.videos import VideoWriter, read_video
from igcv3det.predictor import Predictor
from tools.infer import main


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return str(save_tiny_detector(tmp_path_factory.mktemp("weights") / "tiny.safetensors"))


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for index, name in enumerate(("a.png", "b.jpg")):
        write_noise(folder / name, 60, 90 + index, seed=index)
    return folder


def run(*args):
    return main([str(arg) for arg in args])


def test_a_folder_gives_images_and_records(photos, checkpoint, tmp_path, capsys):
    out, found, table = tmp_path / "out", tmp_path / "found.json", tmp_path / "found.csv"
    status = run(
        *(photos, "--checkpoint", checkpoint, "--output", out, "--threshold", "0.2"),
        *("--json", found, "--csv", table),
    )
    assert status == 0
    records = json.loads(found.read_text())
    assert [record["file"] for record in records] == [str(p) for p in sorted(photos.iterdir())]
    assert (records[1]["width"], records[1]["height"]) == (91, 60)
    expected = Predictor.load(checkpoint, score_threshold=0.2)(photos / "a.png")
    assert [d["label"] for d in records[0]["detections"]] == expected.names
    assert [d["category_id"] for d in records[0]["detections"]] == expected.category_ids
    scores = [d["score"] for d in records[0]["detections"]]
    assert scores == pytest.approx(expected.scores.tolist(), abs=1e-5)
    assert min(scores) >= 0.2
    assert (read_image(out / "a.png") != read_image(photos / "a.png")).any()
    assert read_image(out / "b.jpg").shape == (60, 91, 3)
    with table.open() as file:
        assert len(list(csv.reader(file))) == 1 + sum(len(r["detections"]) for r in records)
    output = capsys.readouterr()
    assert str(out) in output.out.splitlines()[-1]
    assert output.err == ""


def test_bad_files_get_a_line_each_and_the_others_are_read(photos, checkpoint, tmp_path, capsys):
    (photos / "cut.jpg").write_bytes((photos / "b.jpg").read_bytes()[:300])
    (photos / "text.png").write_text("not an image")
    found = tmp_path / "found.json"
    status = run(
        *("missing.jpg", f"{photos}/*", "--checkpoint", checkpoint),
        *("--json", found, "--output", tmp_path / "out"),
    )
    assert status == 1
    records = {record["file"].rsplit("/")[-1]: record for record in json.loads(found.read_text())}
    assert {name for name, record in records.items() if "error" in record} == {
        *("missing.jpg", "cut.jpg", "text.png")
    }
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"a.png", "b.jpg"}
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert all(line.startswith("predict: ") for line in lines)


def test_a_video_gives_a_record_a_frame_and_a_video(checkpoint, tmp_path):
    with VideoWriter(tmp_path / "drive.mp4", 10) as writer:
        for _ in range(3):
            writer.write(np.full((48, 64, 3), 90, dtype=np.uint8))
    found = tmp_path / "found.json"
    out = tmp_path / "out"
    status = run(
        *(tmp_path / "drive.mp4", "--checkpoint", checkpoint, "--threshold", "0.0"),
        *("--json", found, "--output", out),
    )
    assert status == 0
    records = json.loads(found.read_text())
    assert [(r["frame"], r["time"], r["width"]) for r in records] == [
        *((0, 0.0, 64), (1, 0.1, 64), (2, 0.2, 64))
    ]
    drawn = list(read_video(out / "drive.mp4"))
    assert len(drawn) == 3
    assert drawn[0].image.std() > 10  # boxes on a plain background


def test_a_drawing_that_cannot_be_written_does_not_end_the_run(
    photos, checkpoint, tmp_path, capsys
):
    with VideoWriter(photos / "c.mp4", 10) as writer:
        for _ in range(3):
            writer.write(np.full((48, 64, 3), 90, dtype=np.uint8))
    out, found = tmp_path / "out", tmp_path / "found.json"
    for name in ("a.png", "c.mp4"):
        (out / name).mkdir(parents=True)
    status = run(photos, "--checkpoint", checkpoint, "--output", out, "--json", found)
    assert status == 1
    assert len(json.loads(found.read_text())) == 5
    assert read_image(out / "b.jpg").shape == (60, 91, 3)
    # A line before says what drawn videos lose where PyAV is not installed
    assert capsys.readouterr().err.splitlines()[-2:] == [
        f"predict: {out / 'a.png'}: cannot be written: Is a directory",
        f"predict: {out / 'c.mp4'}: cannot write this video",
    ]


def test_a_drawn_video_that_is_not_whole_is_one_line(checkpoint, tmp_path, monkeypatch, capsys):
    with VideoWriter(tmp_path / "v.mp4", 5) as video:
        video.write(np.zeros((48, 64, 3), np.uint8))
    monkeypatch.setattr("igcv3det.io.av_videos.has_pyav", lambda: False)
    monkeypatch.setattr("cv2.VideoWriter.release", lambda writer: (out / "v.mp4").unlink())
    out, found = tmp_path / "out", tmp_path / "found.json"
    args = (tmp_path / "v.mp4", "--checkpoint", checkpoint, "--output", out, "--json", found)
    assert run(*args) == 1
    lines = capsys.readouterr()
    assert [line for line in lines.err.splitlines() if "v.mp4" in line] == [
        f"predict: {out / 'v.mp4'}: cannot write this video; is the disk full?"
    ]
    assert "images: 1; 1 could not be read or written" in lines.out
    assert len(json.loads(found.read_text())) == 1


def test_other_files_of_a_folder_are_a_notice(photos, checkpoint, tmp_path, capsys):
    (photos / "notes.txt").touch()
    assert run(photos, "--checkpoint", checkpoint, "--output", tmp_path / "out") == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"predict: {photos}: left out, by name neither images nor videos: 1 .txt"


def test_names_that_are_not_utf8_are_escaped(photos, checkpoint, tmp_path, capsys):
    (photos / "a.png").rename(photos / os.fsdecode(b"caf\xe9.png"))
    found = tmp_path / "found.json"
    args = (photos, "--checkpoint", checkpoint, "--json", found, "--output", tmp_path / "out")
    assert run(*args) == 0
    assert "caf\\udce9.png: " in capsys.readouterr().out
    assert [record["file"] for record in json.loads(found.read_text())] == [
        str(path) for path in sorted(photos.iterdir())
    ]
    assert len(list((tmp_path / "out").iterdir())) == 2


def test_the_run_is_completed_when_the_reader_of_its_output_has_gone(
    photos, checkpoint, tmp_path, monkeypatch
):
    reader, writer = os.pipe()
    os.close(reader)
    found = tmp_path / "found.json"
    with open(writer, "w") as closed_pipe:  # noqa: PTH123 (a file descriptor)
        monkeypatch.setattr(sys, "stdout", closed_pipe)
        assert run(photos, "--checkpoint", checkpoint, "--json", found) == 0
        monkeypatch.undo()
    assert len(json.loads(found.read_text())) == 2


@pytest.mark.parametrize("option", ["--json", "--csv"])
def test_records_are_alone_on_standard_output(photos, checkpoint, option):
    words = [sys.executable, "-m", "igcv3det", "predict", str(photos), option, "/dev/stdout"]
    words += ["--checkpoint", checkpoint]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    if option == "--json":
        files = [record["file"] for record in json.loads(done.stdout)]
        assert files == [str(path) for path in sorted(photos.iterdir())]
    else:
        columns = {len(row) for row in csv.reader(done.stdout.splitlines())}
        assert columns == {len(COLUMNS)}
    lines = done.stderr.splitlines()
    assert lines[-1].startswith("objects: ")
    assert sum(line.startswith(str(photos)) for line in lines) == 2


def test_images_go_to_a_default_folder_unless_files_are_asked_for(
    photos, checkpoint, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert run(photos / "a.png", "--checkpoint", checkpoint, "--json", "found.json") == 0
    assert not (tmp_path / "runs").exists()
    assert run(photos / "a.png", "--checkpoint", checkpoint) == 0
    assert (tmp_path / "runs" / "infer" / "a.png").is_file()


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        (["--checkpoint", "none.ckpt"], "none.ckpt: no such file"),
        (["--checkpoint", "tiny", "--device", "gpuu"], "no such device: 'gpuu'"),
    ],
)
def test_what_cannot_be_done_is_one_line(photos, checkpoint, more, complaint, capsys):
    more = [checkpoint if arg == "tiny" else arg for arg in more]
    assert run(photos, *more, "--json", photos / "x.json") == 1
    output = capsys.readouterr()
    assert output.err.splitlines() == [output.err.strip()]
    assert complaint in output.err


@pytest.mark.parametrize(
    "args",
    [
        [],
        ["a.png", "--threshold", "1.5"],
        ["a.png", "--nope"],
        ["a.png", "--json", "./a.png"],
        ["a.png", "--csv", "A.PNG"],
        ["a.png", "--json", "r", "--csv", "r"],
        ["a.png", "--checkpoint", "best.ckpt", "--json", "best.ckpt"],
        ["a.png", "--output", __file__],
    ],
    ids=" ".join,
)
def test_wrong_calls(args, capsys):
    with pytest.raises(SystemExit) as stop:
        main(args)
    assert stop.value.code == 2
    assert "usage:" in capsys.readouterr().err
