"""Every shipped configuration parses and builds; every command of the pages names real options."""

import importlib
import re
import shlex
from pathlib import Path

import pytest

from igcv3det.checkpoint import read_config
from igcv3det.detector import build_detector
from tools import train_det

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "data" / "README.md"]


def _commands():
    for page in PAGES:
        for block in re.findall(r"```(?:\w*)\n(.*?)```", page.read_text(encoding="utf-8"), re.S):
            for line in block.replace("\\\n", " ").splitlines():
                if line.strip().startswith("python tools/"):
                    yield pytest.param(line.strip(), id=f"{page.name}: {line.strip()[:40]}")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_it_builds_its_detector(path):
    config = read_config(path)
    detector = build_detector(config)
    assert len(detector.anchors) > 0
    assert detector.config.num_classes == config.num_classes


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_training_takes_it(path, capsys):
    assert train_det.main(["--config", str(path), "--data.root", "x", "--print_config"]) == 0
    assert "detector:" in capsys.readouterr().out


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_it_says_how_to_run_it_and_what_to_expect(path):
    head = path.read_text(encoding="utf-8").split("seed_everything")[0].split("model:")[0]
    assert "# Run:" in head
    assert "# Expected:" in head


@pytest.mark.parametrize("command", list(_commands()))
def test_pages_name_real_options(command, capsys):
    script, *words = shlex.split(command, comments=True)[1:]
    tool = importlib.import_module(f"tools.{Path(script).stem}")
    try:
        status = tool.main(["--help"])
    except SystemExit as stop:
        status = stop.code
    assert not status
    help_text = capsys.readouterr().out
    for option in (word for word in words if word.startswith("--")):
        assert re.search(rf"{re.escape(option)}\b", help_text), f"{script} has no {option}"
