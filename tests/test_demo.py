"""The demonstration, from generating images to drawing detections, and make-shapes."""

import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest

from igcv3det import load_detector
from igcv3det.io.images import read_image
from igcv3det.shapes.dataset import write_shapes
from tools import demo, make_shapes

ROOT = Path(__file__).resolve().parent.parent
TINY = ["--train", "6", "--val", "3", "--image-size", "64"]


def test_make_shapes(tmp_path, capsys):
    assert make_shapes.main([str(tmp_path), *TINY]) == 0
    assert str(tmp_path) in capsys.readouterr().out
    assert len(list((tmp_path / "train2017").glob("*.jpg"))) == 6
    assert len(list((tmp_path / "val2017").glob("*.jpg"))) == 3


def test_make_shapes_keeps_what_is_there(tmp_path, capsys):
    assert make_shapes.main([str(tmp_path), *TINY]) == 0
    assert make_shapes.main([str(tmp_path), *TINY, "--seed", "1"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("make-shapes: ")
    assert "choose another folder" in line


def test_the_help_of_make_shapes_has_the_defaults(capsys):
    with pytest.raises(SystemExit):
        make_shapes.main(["--help"])
    text = capsys.readouterr().out
    parameters = inspect.signature(write_shapes).parameters
    for parameter in [parameters[name] for name in ("train", "val", "image_size", "seed")]:
        option = f"--{parameter.name.replace('_', '-')} "
        (line,) = [line for line in text.splitlines() if line.strip().startswith(option)]
        assert line.endswith(f"(default: {parameter.default})")


def test_make_shapes_wrong_call():
    with pytest.raises(SystemExit) as stop:
        make_shapes.main(["--colours", "3"])
    assert stop.value.code == 2


def test_demo_refuses_a_foreign_folder(tmp_path, capsys):
    annotations = tmp_path / "data" / "annotations"
    annotations.mkdir(parents=True)
    (annotations / "instances_train2017.json").write_text("{}")
    options = ["--data", str(tmp_path / "data"), "--output", str(tmp_path / "run")]
    assert demo.main(options) == 1
    assert "instances_train2017.json" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("config", ["igcv3_shapes.yaml", "mobilenetv2_shapes.yaml"])
def test_demo_leaves_detector_figures_and_images(tmp_path, config):
    """As a user runs it, from a folder of its own; a few steps, so nothing is said of the AP."""
    run = tmp_path / "run"
    done = subprocess.run(
        [
            *(sys.executable, str(ROOT / "tools" / "demo.py")),
            *("--config", str(ROOT / "configs" / config)),
            *("--output", str(run), "--data", str(tmp_path / "data")),
            *("--max_steps", "3", "--train", "48", "--val", "8"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert (run / "config.yaml").is_file()
    assert (run / "metrics.csv").is_file()
    assert 0 <= json.loads((run / "metrics.json").read_text())["AP"] <= 1
    assert len(list((run / "drawn").glob("*.jpg"))) == 6
    last_line = done.stdout.splitlines()[-1]
    assert last_line == f"Detections on 6 validation images: {run / 'detections.png'}"
    assert read_image(run / "detections.png").shape[1] >= 3 * 128
    assert load_detector(run / "checkpoints" / "best.ckpt").categories.names[0] == "disc"
