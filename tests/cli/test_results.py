"""Results are never written over what a command reads."""

import json
import os
import subprocess
import sys

import pytest
from layouts import write_layout

from igcv3det.cli import benchmark, check_data, compare, eval_cls, fuse_boxes
from igcv3det.cli import eval as evaluate
from igcv3det.cli.results import write_json
from research import release

CALLS = {
    "eval": (evaluate, "--annotations FILE --images . --output LINK"),
    "eval-detections": (
        evaluate,
        "--annotations a.json --images . --output FILE --detections LINK",
    ),
    "eval-results": (evaluate, "--annotations a.json --results FILE --output LINK"),
    "eval-cls": (eval_cls, "--checkpoint FILE --data . --output LINK"),
    "check-data": (check_data, "--annotations FILE --images . --json LINK"),
    "compare": (compare, "a.yaml --annotations FILE --images . --json LINK"),
    "benchmark": (benchmark, "a.yaml FILE --json LINK"),
    "fuse-boxes": (fuse_boxes, "a.json FILE --output LINK"),
    "release": (release, "--checkpoint FILE --facts a.json --output LINK"),
}


@pytest.mark.parametrize("name", CALLS)
def test_an_input_is_not_overwritten(name, tmp_path, capsys):
    module, call = CALLS[name]
    file, link = tmp_path / "file.json", tmp_path / "link.json"
    file.write_text("of the user")
    link.symlink_to(file)
    places = {"FILE": str(file), "LINK": str(link)}
    with pytest.raises(SystemExit) as stop:
        module.main([places.get(word, word) for word in call.split()])
    assert stop.value.code == 2
    assert f"{link} is another file of this run" in capsys.readouterr().err
    assert file.read_text() == "of the user"


@pytest.mark.parametrize("result", [".", "file/a.json"])
def test_a_result_that_no_file_can_be_is_refused_before_the_work(result, tmp_path, capsys):
    (tmp_path / "file").touch()
    call = ["--data", str(tmp_path), "--output", str(tmp_path / result)]
    with pytest.raises(SystemExit) as stop:
        evaluate.main(call)
    assert stop.value.code == 2
    assert "a folder; name a file" in (err := capsys.readouterr().err) or "not a folder" in err


def test_a_link_to_itself_is_refused_before_the_work(tmp_path, capsys):
    circle = tmp_path / "circle.json"
    circle.symlink_to(circle)
    with pytest.raises(SystemExit) as stop:
        evaluate.main(["--data", str(tmp_path), "--output", str(circle)])
    assert stop.value.code == 2
    assert f"argument --output: {circle}: " in capsys.readouterr().err


def test_json_is_written_as_a_whole(tmp_path):
    path = tmp_path / "new" / "a.json"
    write_json(path, {"AP": None})
    assert path.read_text() == '{\n "AP": null\n}'
    with pytest.raises(TypeError):
        write_json(path, {"AP": object()})
    assert path.read_text() == '{\n "AP": null\n}'
    assert list(path.parent.iterdir()) == [path]


def test_json_goes_through_a_pipe(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    write_json(path, [1])
    assert os.read(reader, 100) == b"[\n 1\n]"
    os.close(reader)
    assert path.is_fifo()


def test_json_goes_to_standard_output_in_order(tmp_path):
    """Also where that is a file, which a second opening would write from its start."""
    program = (
        "import sys; from pathlib import Path; from igcv3det.cli.results import write_json; "
        "print('first'); sys.stdout.flush(); write_json(Path(sys.argv[1]), [1]); print('last')"
    )
    link, output = tmp_path / "link", tmp_path / "out"
    link.symlink_to("/dev/stdout")
    with output.open("wb") as file:
        subprocess.run([sys.executable, "-c", program, str(link)], stdout=file, check=True)
    assert output.read_text() == "first\n[\n 1\n]\nlast\n"
    assert link.is_symlink()


def test_a_converted_data_set_goes_to_standard_output(tmp_path):
    folder, _ = write_layout(tmp_path, "voc")
    words = [sys.executable, "-m", "igcv3det", "convert-data", str(folder), "/dev/stdout"]
    with (tmp_path / "out.json").open("wb") as file:
        subprocess.run(words, stdout=file, stderr=subprocess.DEVNULL, check=True)
    assert len(json.loads((tmp_path / "out.json").read_text())["images"]) == 6
