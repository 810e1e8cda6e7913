"""Files that are listed: not those that a reader would wait for."""

import os

import numpy as np
import pytest

from igcv3det.datasets.formats.folders import files_ending
from igcv3det.datasets.image_cache import ImageCache
from igcv3det.export.calibration import list_images
from igcv3det.io.folders import files_in, images_in
from igcv3det.io.images import write_image
from igcv3det.io.sources import find_sources

IMAGE = np.zeros((40, 40, 3), np.uint8)


@pytest.fixture
def folder(tmp_path):
    """An image; links to nothing, to it and to themselves; text; a pipe, a link to it; a folder."""
    folder = tmp_path / "images"
    write_image(folder / "b.png", IMAGE)
    (folder / "a.jpg").symlink_to(folder / "none.jpg")
    (folder / "c.JPG").symlink_to(folder / "b.png")
    (folder / "g.jpg").symlink_to(folder / "g.jpg")
    (folder / "notes.txt").write_text("x")
    os.mkfifo(folder / "d.jpg")
    (folder / "e.jpg").symlink_to(folder / "d.jpg")
    (folder / "f.jpg").mkdir()
    return folder


needs_pipes = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")


@needs_pipes
def test_pipes_and_folders_are_no_files(folder):
    images = ["a.jpg", "b.png", "c.JPG", "g.jpg"]
    assert [path.name for path in files_in(folder)] == [*images, "notes.txt"]
    assert [path.name for path in images_in(folder)] == images


@needs_pipes
def test_no_reader_of_folders_waits_for_a_pipe(folder):
    expected = ["a.jpg", "b.png", "c.JPG", "g.jpg"]
    assert [path.name for path in find_sources([folder]).files] == expected
    assert [path.name for path in list_images(folder)] == expected
    assert [path.name for path in files_ending(folder, ".jpg")] == ["a.jpg", "c.JPG", "g.jpg"]
    cache = ImageCache([folder], 32, folder.parent / "cache")
    assert [path.name for path in cache.paths] == expected[1:3]
    assert cache.unreadable == 2


def test_hidden_files_are_no_sources(tmp_path):
    for name in ("a.jpg", "._a.jpg", ".hidden.png"):
        (tmp_path / name).write_bytes(b"x")
    assert [path.name for path in files_in(tmp_path)] == ["a.jpg"]
    assert [path.name for path in images_in(tmp_path)] == ["._a.jpg", ".hidden.png", "a.jpg"]
    found = find_sources([tmp_path])
    assert ([path.name for path in found.files], found.notices) == (["a.jpg"], [])
    hidden = tmp_path / ".hidden.png"  # one that is named is read
    assert find_sources([hidden]).files == [hidden]


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="none: no such folder of images"):
        images_in(tmp_path / "none")
