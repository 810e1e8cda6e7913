"""What a search keeps on disk."""

import pytest

from igcv3det.tasks.compress.work_folder import WorkFolder


@pytest.mark.parametrize(
    "text", ["", '{"a": 1', "[1]", "\0\0"], ids=["empty", "cut", "list", "zeros"]
)
def test_a_damaged_file_is_named_with_the_remedy(tmp_path, text):
    folder = WorkFolder(tmp_path)
    (tmp_path / "prices.json").write_text(text)
    with pytest.raises(ValueError, match=r"prices\.json: damaged; delete it"):
        folder.read("prices.json")


def test_what_was_written_is_read_and_what_was_not_is_empty(tmp_path):
    folder = WorkFolder(tmp_path)
    folder.write("a.json", {"x": [1, 2.5]})
    assert folder.read("a.json") == {"x": [1, 2.5]}
    assert folder.read("b.json") == {}


def test_one_process_works_in_a_folder(tmp_path):
    first = WorkFolder(tmp_path)
    with pytest.raises(BlockingIOError, match="another process is working there"):
        WorkFolder(tmp_path)
    first.release()
    WorkFolder(tmp_path).release()


SEARCH = {"steps": 2, "checkpoint": "a 12ab", "images": "photos, 3 files", "sizes of images": "9"}


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"steps": 3}, r"\(steps 2, not 3\)"),
        ({"checkpoint": "a 34cd"}, r"\(checkpoint a 12ab, not a 34cd\)"),
        ({"sizes of images": "8"}, r"\(sizes of images 9, not 8\)"),
        (
            {"images": "b, 4 files", "sizes of images": "8"},
            r"\(images photos, 3 files, not b, 4 files\)",
        ),
    ],
)
def test_another_search_is_refused(tmp_path, other, message):
    folder = WorkFolder(tmp_path)
    folder.require_same_search(SEARCH)
    folder.note_search(SEARCH)
    with pytest.raises(ValueError, match=message):
        folder.require_same_search(SEARCH | other)


def test_the_same_search_may_be_called_otherwise(tmp_path):
    folder = WorkFolder(tmp_path)
    folder.note_search(SEARCH)
    other = SEARCH | {"checkpoint": "/models/a 12ab", "images": "/photos, 3 files"}
    folder.require_same_search(other)
    folder.note_search(other)
    assert folder.read("search.json") == SEARCH
