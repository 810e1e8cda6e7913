"""Classifier files, and a detector that starts from one."""

import pytest
import torch

from igcv3det.checkpoint import load_backbone
from igcv3det.config import BackboneConfig, DetectorConfig
from igcv3det.detector import build_detector
from igcv3det.models.igcv2 import IGCV2Config
from igcv3det.tasks.classify.checkpoint import (
    Classifier,
    load_classifier,
    numbered_names,
    save_classifier,
)
from igcv3det.tasks.classify.config import ClassifierConfig
from igcv3det.tasks.classify.networks import build_network

CONFIGS = {
    "igcv3": ClassifierConfig(3, 32, BackboneConfig(width=0.25, depth=0.5)),
    "igcv2": ClassifierConfig(3, 32, igcv2=IGCV2Config(channels=16, blocks=1, layers=2)),
}


def classifier(config, names=("a", "b", "c")):
    return Classifier(build_network(config).eval(), config, names)


@pytest.mark.parametrize("kind", CONFIGS)
def test_round_trip(tmp_path, kind):
    saved = classifier(CONFIGS[kind])
    save_classifier(saved, tmp_path / "x.safetensors", {"source": "here"})
    loaded = load_classifier(tmp_path / "x.safetensors")
    assert loaded.config == saved.config
    assert loaded.names == saved.names
    assert not loaded.network.training
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(loaded.network(images), saved.network(images))


def test_a_configuration_gives_random_weights(tmp_path):
    (tmp_path / "x.yaml").write_text(
        "model: {classifier: {num_classes: 4, backbone: {width: 0.25, depth: 0.5}}}"
    )
    loaded = load_classifier(tmp_path / "x.yaml")
    assert loaded.names == numbered_names(4)
    assert loaded.network(torch.zeros(1, 3, 32, 32)).shape == (1, 4)


def test_configurations_are_found_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_classifier("cls/cifar100.yaml").config.num_classes == 100
    with pytest.raises(FileNotFoundError, match=r"cls/cifar\.yaml: no such file.*cls/cifar10"):
        load_classifier("cls/cifar.yaml")


def test_a_detector_starts_from_a_classifier(tmp_path):
    saved = classifier(CONFIGS["igcv3"])
    save_classifier(saved, tmp_path / "x.safetensors")
    torch.save(
        {"state_dict": {f"network.{k}": v for k, v in saved.network.state_dict().items()}},
        tmp_path / "x.ckpt",
    )
    config = DetectorConfig(image_size=64, backbone=CONFIGS["igcv3"].backbone)
    for name in ("x.safetensors", "x.ckpt"):
        detector = build_detector(config)
        load_backbone(detector.backbone, tmp_path / name)
        for key, value in detector.backbone.state_dict().items():
            assert torch.equal(value, saved.network.state_dict()[key]), key


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.yaml", "model: {detector: {}}", "no model.classifier"),
        ("x.yaml", "model: {classifier: {classes: 3}}", r"x\.yaml: model\.classifier has no field"),
        ("x.yaml", "model: {classifier: {igcv2: {branch: 11}}}", r"x\.yaml: .*branch=11"),
        ("x.yaml", "a: [", "not readable as YAML"),
        ("x.txt", "", "a classifier is a"),
        ("x.safetensors", "none", "not a readable safetensors"),
    ],
)
def test_unusable_files(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message) as caught:
        load_classifier(tmp_path / name)
    assert name in str(caught.value)


def test_the_file_of_a_detector_is_refused(tmp_path):
    torch.save({"igcv3det": {"format": 1, "detector": {}}, "state_dict": {}}, tmp_path / "d.ckpt")
    with pytest.raises(ValueError, match=r"d\.ckpt: holds a detector, and a classifier"):
        load_classifier(tmp_path / "d.ckpt")


def test_missing_file():
    with pytest.raises(FileNotFoundError, match="absent"):
        load_classifier("absent.safetensors")


def test_only_safetensors_are_written(tmp_path):
    with pytest.raises(ValueError, match=r"\.safetensors"):
        save_classifier(classifier(CONFIGS["igcv2"]), tmp_path / "x.pt")
