"""Names of drawn images: none is lost, no source is written over."""

from pathlib import Path

import numpy as np
import pytest

from igcv3det.io.drawing_folder import DrawingFolder
from igcv3det.io.frames import Frame
from igcv3det.io.images import read_image, write_image
from igcv3det.io.videos import read_video

WHITE = np.full((32, 48, 3), 255, dtype=np.uint8)
BLACK = np.zeros((32, 48, 3), dtype=np.uint8)


def test_names(tmp_path):
    sources = ["x/a.png", "y/a.png", "a.gif", "b.JPG"]
    with DrawingFolder(tmp_path / "new" / "out") as folder:
        written = [folder.write(Frame(tmp_path / s, WHITE), BLACK).name for s in sources]
    assert written == ["a.png", "a_2.png", "a_3.png", "b.JPG"]
    assert sorted(p.name for p in (tmp_path / "new" / "out").iterdir()) == sorted(written)


def test_a_source_in_the_same_folder_survives(tmp_path):
    write_image(tmp_path / "a.png", WHITE)
    with DrawingFolder(tmp_path, [tmp_path / "a.png"]) as folder:
        assert folder.write(Frame(tmp_path / "a.png", WHITE), BLACK) == tmp_path / "a_2.png"
    assert (read_image(tmp_path / "a.png") == 255).all()


@pytest.mark.parametrize("link", ["symlink_to", "hardlink_to"])
def test_a_link_to_a_source_is_not_written_through(tmp_path, link):
    source = tmp_path / "source.png"
    write_image(source, WHITE)
    (tmp_path / "out").mkdir()
    getattr(tmp_path / "out" / "a.png", link)(source)
    with DrawingFolder(tmp_path / "out", [source]) as folder:
        written = folder.write(Frame(tmp_path / "a.png", WHITE), BLACK)
    assert written == tmp_path / "out" / "a_2.png"
    assert (read_image(source) == 255).all()


def test_a_missing_source_is_not_created(tmp_path):
    with DrawingFolder(tmp_path, [tmp_path / "a.png"]) as folder:
        assert folder.write(Frame(Path("x/a.png"), WHITE), BLACK) == tmp_path / "a_2.png"


def test_drawings_whose_names_differ_in_case_only(tmp_path):
    # one file on macOS and Windows
    with DrawingFolder(tmp_path) as folder:
        written = [folder.write(Frame(Path(s), WHITE), BLACK).name for s in ("x/a.png", "y/A.png")]
    assert written == ["a.png", "A_2.png"]


def test_a_drawing_of_an_earlier_run_is_replaced(tmp_path):
    for level in (WHITE, BLACK):
        with DrawingFolder(tmp_path) as folder:
            folder.write(Frame(Path("x/a.png"), WHITE), level)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    assert (read_image(tmp_path / "a.png") == 0).all()


def test_two_videos_in_turn(tmp_path):
    with DrawingFolder(tmp_path) as folder:
        for source in ("x/a.mov", "y/a.mov"):
            for index in range(3):
                frame = Frame(tmp_path / source, WHITE, index, index / 10, 10.0)
                path = folder.write(frame, WHITE if source[0] == "x" else BLACK)
    assert path == tmp_path / "a_2.mp4"
    for name, level in (("a.mp4", 255), ("a_2.mp4", 0)):
        frames = list(read_video(tmp_path / name))
        assert len(frames) == 3
        assert abs(frames[0].image.mean() - level) < 5
