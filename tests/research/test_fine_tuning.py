import json

import pytest
from PIL import Image

from research import fine_tuning


@pytest.fixture
def finished(tmp_path):
    """Runs of two seeds that another call has finished."""
    runs = tmp_path / "runs"
    for turn, start in enumerate(fine_tuning.starts(tmp_path / "teacher.safetensors")):
        for seed, last in ((0, 0.5), (1, 0.7)):
            folder = runs / "bccd" / f"{start.slug}-seed{seed}"
            folder.mkdir(parents=True)
            (folder / "result.json").write_text(json.dumps([0.1, 0.2, 0.3, last - 0.1 * turn]))
    return runs


def _call(tmp_path, *more):
    places = ["--data", str(tmp_path / "data"), "--teacher", str(tmp_path / "teacher.safetensors")]
    output = ["--output", str(tmp_path / "out"), "--runs", str(tmp_path / "runs")]
    return fine_tuning.main(["bccd", *places, *output, *more])


def test_finished_runs_are_not_repeated_but_tabulated(tmp_path, finished):
    assert _call(tmp_path) == 0
    table = (tmp_path / "out" / "table.md").read_text().splitlines()
    # means of 0.1; of the second of four, 0.2; of 0.5 and 0.7
    assert table[2].split("|")[2:7] == [" 2 ", " 0.100 ", " 0.200 ", " 0.600 ", " 0.500 to 0.700 "]
    assert table[5].startswith("| MobileNetV2, from scratch | 2 | 0.100 | 0.200 | 0.300 |")
    with Image.open(tmp_path / "out" / "curves.png") as image:
        assert image.width > 500


def test_rows_without_a_run(tmp_path):
    assert "| A | 0 | not run |" in fine_tuning.markdown({"A": []})


def test_what_is_missing_is_named(tmp_path, capsys):
    assert _call(tmp_path, "--seeds", "0") == 1
    assert str(tmp_path / "data") in capsys.readouterr().err
