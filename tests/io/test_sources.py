"""Files, folders and patterns give their images; bad ones are named and do not end the run."""

import os
from pathlib import Path

import numpy as np
import pytest
from coco_files import write_noise

from igcv3det.io.frames import Frame, UnreadableSource
from igcv3det.io.sources import find_sources, read_sources
from igcv3det.io.videos import VideoWriter


@pytest.fixture
def folder(tmp_path):
    for name in ("b.png", "a.JPG", "inner/c.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        write_noise(path, 20, 30)
    return tmp_path


def read(*sources):
    return list(read_sources(find_sources(sources).files))


def names(items):
    return [item.file.name for item in items]


def test_a_folder_gives_its_own_images_by_name(folder):
    assert names(read(folder)) == ["a.JPG", "b.png"]


def test_patterns(folder, monkeypatch):
    assert names(read(f"{folder}/*.png")) == ["b.png"]
    assert names(read(f"{folder}/**/*.png")) == ["b.png", "c.png"]
    monkeypatch.chdir(folder)
    assert find_sources(["**/*.png"]).files == [Path("b.png"), Path("inner/c.png")]


@pytest.mark.parametrize(
    "name", ["x[1].png", "a\\b.png", "x*.png", " .png", "é.png", "e\u0301.png"]
)
def test_an_exact_name_takes_precedence_over_a_pattern(folder, name):
    path = write_noise(folder / name, 20, 30)
    assert find_sources([str(path)]).files == [path]
    assert isinstance(*read(str(path)), Frame)


def test_a_pattern_in_a_folder_of_that_name(folder):
    (folder / "photos[1]").mkdir()
    path = write_noise(folder / "photos[1]" / "d.png", 20, 30)
    assert find_sources([f"{folder}/photos[1]/*.png"]).files == [path]


@pytest.mark.parametrize("source", [".", "*.png"])
def test_frames_in_the_order_of_their_numbers(tmp_path, monkeypatch, source):
    monkeypatch.chdir(tmp_path)
    numbers = (1, 2, 10, 11, 100)
    for number in numbers:
        write_noise(tmp_path / f"x2_{number}.png", 20, 30)
    files = find_sources([source], numbered=True).files
    assert [file.name for file in files] == [f"x2_{number}.png" for number in numbers]
    plain = find_sources([source]).files
    assert plain == sorted(files)


def test_other_files_of_a_folder_are_counted(folder):
    for name in ("notes.txt", "more.TXT", "raw.cr2", "README", ".hidden"):
        (folder / name).touch()
    sources = find_sources([folder])
    assert sources.files == [folder / "a.JPG", folder / "b.png"]
    (notice,) = sources.notices
    beginning, _, kinds = notice.rpartition(": ")
    assert beginning == f"{folder}: left out, by name neither images nor videos"
    assert set(kinds.split(", ")) == {"2 .txt", "1 .cr2", "1 without an ending"}


def test_every_kind_of_image_and_video_is_found(folder):
    kinds = (".jfif", ".heic", ".avif", ".3gp", ".ts", ".flv", ".MOV")
    for kind in kinds:
        (folder / "inner" / f"x{kind}").touch()
    sources = find_sources([folder / "inner"])
    assert {path.suffix for path in sources.files} == {*kinds, ".png"}
    assert sources.notices == []


def test_what_cannot_be_read_is_named_and_the_rest_is_read(folder):
    (folder / "notes.txt").write_text("not an image")
    cut = folder / "cut.jpg"
    cut.write_bytes((folder / "a.JPG").read_bytes()[:200])
    (folder / "empty").mkdir()
    link = folder / "inner" / "broken_link.png"
    link.symlink_to(folder / "gone.png")
    sources = [
        *("missing.jpg", folder / "notes.txt", cut, folder / "empty", f"{folder}/*.gif"),
        *(f"{folder}/missing[1].png", "x" * 300, f"{folder}/{'x' * 300}*", link),
        *("", folder / "b.png"),  # the empty name is not the working directory
    ]
    *bad, good = read(*sources)
    assert all(isinstance(item, UnreadableSource) for item in bad)
    for item, source in zip(bad, sources[:-1], strict=True):
        assert Path(source).name in item.reason
        assert "\n" not in item.reason
    assert isinstance(good, Frame)
    assert (good.image.shape, good.index, good.time, good.fps) == ((20, 30, 3), None, None, None)
    assert names(read(folder / "inner")) == ["broken_link.png", "c.png"]


@pytest.mark.skipif(os.name != "posix", reason="names are bytes on POSIX only")
def test_names_that_are_not_utf8(tmp_path):
    path = tmp_path / os.fsdecode(b"caf\xe9.png")
    write_noise(tmp_path / "plain.png", 20, 30).rename(path)
    with VideoWriter(tmp_path / os.fsdecode(b"caf\xe9.mp4"), 10) as writer:
        writer.write(np.zeros((32, 48, 3), np.uint8))
    frames = read(tmp_path)
    assert [frame.image.shape for frame in frames] == [(32, 48, 3), (20, 30, 3)]
    assert sorted(map(os.fsencode, tmp_path.iterdir())) == [
        os.fsencode(tmp_path / os.fsdecode(name)) for name in (b"caf\xe9.mp4", b"caf\xe9.png")
    ]


def test_sources_are_found_before_the_first_is_read(folder):
    items = read_sources(find_sources([folder]).files)
    next(items)
    write_noise(folder / "new.png", 20, 30)
    assert names(items) == ["b.png"]
