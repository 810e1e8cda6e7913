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
