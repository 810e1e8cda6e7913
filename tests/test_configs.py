"""Every shipped configuration parses and builds; every command of the pages names real options."""

import importlib
import re
import shlex
from pathlib import Path

import pytest
import yaml

from igcv3det.checkpoint import read_config
from igcv3det.detector import build_detector
from igcv3det.measure.complexity import count_parameters
from igcv3det.tasks.classify.checkpoint import load_classifier
from igcv3det.tasks.classify.networks import build_network
from research.ablation.plan import read_plan
from tools import distill, train_cls, train_det

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
CLASSIFIERS = sorted((ROOT / "configs" / "cls").glob("*.yaml"))
DISTILLATIONS = sorted((ROOT / "configs" / "distill").glob("*.yaml"))
ABLATIONS = sorted((ROOT / "configs" / "ablate").glob("*.yaml"))
ALL = [*CONFIGS, *CLASSIFIERS, *ABLATIONS, *DISTILLATIONS]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), ROOT / "data" / "README.md"]


def _commands():
    for page in PAGES:
        for block in re.findall(r"```(?:\w*)\n(.*?)```", page.read_text(encoding="utf-8"), re.S):
            for line in block.replace("\\\n", " ").splitlines():
                if line.strip().startswith(("python tools/", "igcv3det ")):
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


@pytest.mark.parametrize(
    "path", [*CONFIGS, *CLASSIFIERS, *ABLATIONS, *DISTILLATIONS], ids=lambda p: p.stem
)
def test_it_says_how_to_run_it_and_what_to_expect(path):
    head = re.split("^[a-z]", path.read_text(encoding="utf-8"), maxsplit=1, flags=re.M)[0]
    assert "# Run:" in head
    assert "# Expected:" in head


@pytest.mark.parametrize("path", DISTILLATIONS, ids=lambda p: p.stem)
def test_distillation_takes_it_and_all_phases_have_one_student(path, capsys):
    assert distill.main(["--config", str(path), "--print_config"]) == 0
    assert "distillation:" in capsys.readouterr().out
    assert read_config(path) == read_config(DISTILLATIONS[0])


@pytest.mark.parametrize("path", CLASSIFIERS, ids=lambda p: p.stem)
def test_a_classifiers_run_command_parses_and_it_builds(path, capsys):
    (command,) = re.findall(r"# Run: +python tools/train_cls\.py (.*)", path.read_text())
    options = shlex.split(command)
    assert options[:2] == ["--config", path.relative_to(ROOT).as_posix()]
    assert train_cls.main(["--config", str(path), *options[2:], "--print_config"]) == 0
    assert "classifier:" in capsys.readouterr().out
    classifier = load_classifier(path)
    assert (
        classifier.config.num_classes
        == {"cifar10": 10, "cifar100": 100, "imagenet": 1000}[path.stem.rpartition("_")[2]]
    )


@pytest.mark.parametrize("path", ABLATIONS, ids=lambda p: p.stem)
def test_an_ablations_plan_builds_and_training_takes_each_row(path, tmp_path, capsys):
    plan = read_plan(path)
    keys = set()
    for experiment in plan.experiments:
        keys |= experiment.changes.keys()
    # one parse for all: a settings file is slow to parse, its rows differ in the network alone
    assert all(key.startswith("model.classifier.") for key in keys)
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(plan.base))
    assert train_cls.main(["--config", str(tmp_path / "base.yaml"), "--print_config"]) == 0
    assert "classifier:" in capsys.readouterr().out


def test_each_row_of_the_short_protocol_changes_one_thing():
    """One key, or one besides the width that keeps the parameters, which is then checked."""
    plan = read_plan(ROOT / "configs" / "ablate" / "cifar10_short.yaml")
    base, *others = plan.experiments
    assert base.changes == {}
    assert set(base.questions) == set(plan.questions)
    full = count_parameters(build_network(plan.classifier(base)))
    assert full == 2_223_498  # as without the strides
    equal = []
    for experiment in others:
        (value,) = experiment.changes.values()
        if isinstance(value, dict) and "width" in value:
            assert len(value) == 2, experiment.name
            equal.append(experiment.name)
        if experiment.name in equal or {"baselines", "relu", "permutation"} & {
            *experiment.questions
        }:
            own = count_parameters(build_network(plan.classifier(experiment)))
            assert abs(own / full - 1) < (0.02 if experiment.name == "IGCV2" else 0.01)
    assert len(equal) == 5


@pytest.mark.parametrize("command", list(_commands()))
def test_pages_name_real_options(command, capsys):
    script, *words = shlex.split(command, comments=True)[1:]
    package = "igcv3det.cli" if command.startswith("igcv3det") else "tools"
    tool = importlib.import_module(f"{package}.{Path(script).stem.replace('-', '_')}")
    try:
        status = tool.main(["--help"])
    except SystemExit as stop:
        status = stop.code
    assert not status
    help_text = capsys.readouterr().out
    for option in (word for word in words if word.startswith("--")):
        assert re.search(rf"{re.escape(option)}\b", help_text), f"{script} has no {option}"
