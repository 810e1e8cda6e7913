"""Every shipped configuration parses and builds."""

import dataclasses
import re
from pathlib import Path

import pytest
import torch
import yaml

from igcv3det.checkpoint import read_config, read_trained_config
from igcv3det.config import AugmentConfig, DetectorConfig, LossConfig, OptimConfig, flatten
from igcv3det.detector import build_detector
from igcv3det.measure.complexity import count_parameters
from igcv3det.models.igcv2 import IGCV2Config
from igcv3det.tasks.classify.checkpoint import load_classifier
from igcv3det.tasks.classify.config import ClassifierConfig, ImageAugmentConfig, ScheduleConfig
from igcv3det.tasks.classify.networks import build_network
from igcv3det.yaml_files import read_yaml
from research.ablation.plan import read_plan
from tools import train_cls, train_det

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
CLASSIFIERS = sorted((ROOT / "configs" / "cls").glob("*.yaml"))
DISTILLATIONS = sorted((ROOT / "configs" / "distill").glob("*.yaml"))
ABLATIONS = sorted((ROOT / "configs" / "ablate").glob("*.yaml"))
SEGMENTERS = sorted((ROOT / "configs" / "segment").glob("*.yaml"))
ALL = [*CONFIGS, *CLASSIFIERS, *ABLATIONS, *DISTILLATIONS, *SEGMENTERS]


def _head(path):
    """What a configuration's first comment says under ``Run`` and under ``Expected``."""
    head = re.split("^[a-z]", path.read_text(encoding="utf-8"), maxsplit=1, flags=re.M)[0]
    run, _, expected = head.partition("# Run:")[2].partition("# Expected:")
    return run, expected


def _names_itself(path):
    return f"--config {path.relative_to(ROOT).as_posix()}" in _head(path)[0].replace("\\\n#", "")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_it_builds_its_detector(path):
    config = read_config(path)
    detector = build_detector(config)
    assert len(detector.anchors) > 0
    assert detector.config.num_classes == config.num_classes


@pytest.mark.parametrize(
    "path", [path for path in CONFIGS if not _names_itself(path)], ids=lambda p: p.stem
)
def test_training_takes_it(path, capsys):
    """The others are parsed in test_documented_commands.py, by their own ``# Run:``."""
    assert train_det.main(["--config", str(path), "--data.root", "x", "--print_config"]) == 0
    assert "detector:" in capsys.readouterr().out


@pytest.mark.parametrize("path", ALL, ids=lambda p: p.stem)
def test_it_says_how_to_run_it_and_what_to_expect(path):
    run, expected = _head(path)
    assert run.strip()
    assert expected.strip()
    if path in (*CLASSIFIERS, *DISTILLATIONS):
        assert _names_itself(path)


@pytest.mark.parametrize("path", DISTILLATIONS, ids=lambda p: p.stem)
def test_phases_with_weights_take_the_student_of_these(path):
    model = yaml.safe_load(path.read_text(encoding="utf-8"))["model"]
    assert ("weights" in model) != ("detector" in model)
    if "detector" in model:  # the phases that start a student start the same
        first = ROOT / "configs" / "distill" / "1_early.yaml"
        assert read_config(path) == read_config(first)


@pytest.mark.parametrize("path", CLASSIFIERS, ids=lambda p: p.stem)
def test_it_builds_its_classifier(path):
    classes = load_classifier(path).config.num_classes
    assert classes == {"cifar100": 100, "imagenet": 1000}.get(path.stem, 10)


CIFAR = {"model.optim.lr": 0.1, "model.optim.decay_norms": True, "data.batch_size": 64}
CIFAR100 = {**CIFAR, "model.classifier.num_classes": 100, "data.root": "data/cifar100"}
IMAGENET = {"model.optim.lr": 0.045, "data.batch_size": 96, "model.classifier.num_classes": 1000}


@pytest.mark.parametrize(
    ("stack", "expected"),
    [
        ("cifar10", {**CIFAR, "model.classifier.backbone.name": "igcv3"}),
        ("mobilenetv2 cifar10", {**CIFAR, "model.classifier.backbone.name": "mobilenetv2"}),
        ("cifar10 cifar100 igcv2", {**CIFAR100, "model.classifier.igcv2.channels": 576}),
        (
            "igcv3_depth0.5 cifar10 cifar100",
            {**CIFAR100, "model.classifier.backbone.repeats": [1, 2, 3, 4, 2, 2, 1]},
        ),
        ("imagenet mobilenetv2", {**IMAGENET, "model.classifier.backbone.name": "mobilenetv2"}),
    ],
)
def test_stacked_classifiers(stack, expected, capsys):
    """A file of a network goes before or after those of the data set."""
    words = [word for name in stack.split() for word in ("--config", f"cls/{name}")]
    assert train_cls.main([*words, "--print_config"]) == 0
    values = flatten(yaml.safe_load(capsys.readouterr().out))
    assert {key: values[key] for key in expected} == expected


@pytest.mark.parametrize("path", ABLATIONS, ids=lambda p: p.stem)
def test_training_takes_the_plans_of_ablations(path, tmp_path, capsys):
    plan = read_plan(path)
    keys = set()
    for experiment in plan.experiments:
        keys |= experiment.changes.keys()
    # one parse for all: the rows differ in the network alone
    assert all(key.startswith("model.classifier.") for key in keys)
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(plan.base))
    assert train_cls.main(["--config", str(tmp_path / "base.yaml"), "--print_config"]) == 0
    assert "classifier:" in capsys.readouterr().out


def test_each_row_of_the_short_protocol_changes_one_thing():
    """One key, or one besides the width that keeps the parameters, which is then checked."""
    plan = read_plan(ROOT / "configs" / "ablate" / "cifar10_short.yaml")
    base, *others = plan.experiments
    assert base.changes == {}
    assert set(base.comparison_groups) == set(plan.comparison_groups)
    with torch.device("meta"):  # nothing but parameters is counted
        full = count_parameters(build_network(plan.classifier(base)))
    assert full == 2_223_498  # as without the strides
    equal = []
    for experiment in others:
        (value,) = experiment.changes.values()
        if isinstance(value, dict) and "width" in value:
            assert len(value) == 2, experiment.name
            equal.append(experiment.name)
        if experiment.name in equal or {"baselines", "relu", "permutation"} & {
            *experiment.comparison_groups
        }:
            with torch.device("meta"):
                own = count_parameters(build_network(plan.classifier(experiment)))
            assert abs(own / full - 1) < (0.02 if experiment.name == "IGCV2" else 0.01)
    assert len(equal) == 5


@pytest.mark.parametrize("path", [*CONFIGS, *CLASSIFIERS], ids=lambda p: p.stem)
def test_it_holds_only_what_it_changes(path):
    """Except for network and number of classes, which say what the file is about."""
    content = read_yaml(path)
    model = content["model"]
    weights = model.get("weights")
    detector = read_trained_config(weights)[0] if weights else DetectorConfig()
    augment = ImageAugmentConfig() if path in CLASSIFIERS else AugmentConfig()
    sections = {
        "detector": (model, detector),
        "classifier": (model, ClassifierConfig(igcv2=IGCV2Config())),
        "optim": (model, OptimConfig()),
        "schedule": (model, ScheduleConfig()),
        "loss": (model, LossConfig()),
        "augment": (content.get("data", {}), augment),
    }
    named = ("backbone.name", "num_classes", "igcv2.channels")
    for name, (parent, base) in sections.items():
        default = flatten(dataclasses.asdict(base))
        for key, value in flatten(parent.get(name, {})).items():
            own = tuple(value) if isinstance(value, list) else value
            assert own != default[key] or key in named, f"{name}.{key}"
