"""No layout of sources and results makes `igcv3det predict` write over one of its sources."""

import contextlib
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from coco_files import THREE

from igcv3det.cli.predict import main
from igcv3det.io.images import write_image
from igcv3det.io.sources import find_sources
from igcv3det.io.videos import VideoWriter
from igcv3det.predictor import Predictor
from igcv3det.structures import Detections

FILES = ("x.png", "X.png", "x.jpg", "x.gif", "x_2.png", "y.bmp", "x.mp4", "x.avi", "x_2.mp4")
FOLDERS = ("a", "b", "a/in")
PLACES = tuple(f"{folder}/{name}" for folder, name in itertools.product(FOLDERS, FILES))
PATTERNS = (*FOLDERS, "a/*", "**/*.png", "**/x*", "b/../a", "missing/*.png", "a/missing.png")
RESULTS = (None, *FOLDERS, "out", "a/../b", "link")


@pytest.fixture(scope="module", autouse=True)
def one_box():
    """A detector that draws a box into every image."""
    found = Detections(
        torch.tensor([[2.0, 2, 20, 12]]), torch.tensor([0.9]), torch.tensor([1]), THREE
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Predictor, "load", lambda *args, **options: lambda image: found)
        yield


@pytest.fixture(scope="module")
def contents(tmp_path_factory):
    """Bytes of a small image or video by ending."""
    folder = tmp_path_factory.mktemp("contents")
    white = np.full((16, 32, 3), 255, np.uint8)
    for suffix in (".png", ".jpg", ".gif", ".bmp"):
        write_image(folder / f"a{suffix}", white)
    with VideoWriter(folder / "a.mp4", 10) as video:
        video.write(white)
    result = {path.suffix: path.read_bytes() for path in folder.iterdir()}
    return {**result, ".avi": result[".mp4"]}


def check(root, contents, files, links, sources, output, json_file, csv_file):
    """Runs the command in ``root`` and compares the bytes of every source."""
    for folder in FOLDERS:
        (root / folder).mkdir(parents=True)
    (root / "link").symlink_to("b")
    for name in files:
        (root / name).write_bytes(contents[Path(name).suffix])
    for name, target, make in links:
        if name not in files and (make != "hardlink_to" or target in files):
            target_path = root / target
            getattr(root / name, make)(target_path)
    options = (("--output", output), ("--json", json_file), ("--csv", csv_file))
    args = [*sources, *(part for pair in options if pair[1] for part in pair)]
    with contextlib.chdir(root):
        paths = find_sources(sources).paths
        before = {path: path.read_bytes() for path in paths if path.is_file()}
        missing = [path for path in paths if not path.exists()]
        try:
            status = main(args)
        except SystemExit as stop:
            status = stop.code
        assert status in (0, 1, 2)
        assert {path: path.read_bytes() for path in before} == before
        assert not any(path.exists() for path in missing)
        if status != 2 and json_file:
            records = json.loads(Path(json_file).read_text(encoding="utf-8"))
            assert [Path(record["file"]) for record in records] == paths


KNOWN = {
    "drawing of a later source": (["a/x.gif", "a/x.png"], [], ["a"], "a"),
    "videos of one name": (["a/x.avi", "a/x.mp4"], [], ["a"], "a"),
    "folder that is also a source": (["a/x.png", "b/x.png"], [], ["a", "b"], "b"),
    "source that is missing": (["a/x.png"], [], ["a/x.png", "b/x.png"], "b"),
    "linked folder": (["a/x.png", "b/x.png"], [], ["a", "b"], "link"),
    "symbolic link": (["a/x.png"], [("b/x.png", "a/x.png", "symlink_to")], ["a"], "b"),
    "hard link": (["a/x.png"], [("b/x.png", "a/x.png", "hardlink_to")], ["a"], "b"),
    "numbered name": (["a/x.png", "a/x_2.png", "a/in/x.png"], [], ["a/in", "a"], "a"),
}


@pytest.mark.parametrize("layout", KNOWN.values(), ids=KNOWN)
def test_known_layouts(tmp_path, contents, layout):
    files, links, sources, output = layout
    check(tmp_path, contents, files, links, sources, output, "out.json", None)


@pytest.mark.parametrize("option", ["json_file", "csv_file"])
def test_a_source_is_not_written_over_by_records(tmp_path, contents, option):
    results = {"json_file": None, "csv_file": None, option: "a/../a/x.png"}
    check(tmp_path, contents, ["a/x.png"], [], ["a"], None, **results)


def test_a_table_behind_a_link_to_itself(tmp_path, contents):
    link = ("b/x_2.png", "b/x_2.png", "symlink_to")
    check(tmp_path, contents, ["a/x.png"], [link], ["a"], None, "r.json", "b/x_2.png")


def test_any_layout(tmp_path_factory, contents):
    hypothesis = pytest.importorskip("hypothesis", reason="needs the extra igcv3det[test]")
    st = hypothesis.strategies
    link = st.tuples(
        st.sampled_from(PLACES),
        st.sampled_from(PLACES),
        st.sampled_from(("symlink_to", "hardlink_to")),
    )
    record_files = st.sampled_from((None, "r.json", *PLACES))

    @hypothesis.settings(max_examples=60, deadline=None, database=None)
    @hypothesis.given(
        files=st.lists(st.sampled_from(PLACES), min_size=1, max_size=8, unique=True),
        links=st.lists(link, max_size=2, unique_by=lambda one: one[0]),
        sources=st.lists(st.sampled_from((*PLACES, *PATTERNS)), min_size=1, max_size=4),
        output=st.sampled_from(RESULTS),
        json_file=record_files,
        csv_file=record_files,
    )
    def run(**layout):
        check(tmp_path_factory.mktemp("layout"), contents, **layout)

    run()
