"""Checkpoints that describe themselves: round trips, and complaints that name file and field."""

import dataclasses
import json

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from igcv3det.checkpoint import (
    describe_detector,
    load_backbone,
    load_detector,
    read_config,
    save_detector,
)
from igcv3det.config import (
    AnchorConfig,
    BackboneConfig,
    DetectorConfig,
    HeadConfig,
    PreprocessConfig,
)
from igcv3det.description import DESCRIPTION
from igcv3det.detector import build_detector
from igcv3det.fastpath.deploy import deploy
from igcv3det.models.mobilenetv2 import mobilenet_v2
from igcv3det.structures import Categories
from igcv3det.weight_files import read_metadata, read_torch

CONFIG = DetectorConfig(
    num_classes=2,
    image_size=64,
    padding="same",
    backbone=BackboneConfig(width=0.25, depth=0.5, groups=(2, 4)),
    anchors=AnchorConfig(layout="tensorflow", reduce_lowest=True),
    preprocess=PreprocessConfig(mean=(1.0, 2.0, 3.0)),
)
CATEGORIES = Categories((3, 17), ("Katze", "犬"))


@pytest.fixture
def detector():
    return build_detector(CONFIG, CATEGORIES).eval()


def _same(first, second):
    assert first.config == second.config
    assert first.categories == second.categories
    assert not second.training
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert_close(second(x).logits, first(x).logits, rtol=0, atol=0)


def test_safetensors_round_trip(detector, tmp_path):
    path = tmp_path / "new" / "weights.safetensors"
    save_detector(detector, path, {"source": "a test", "licence": "Apache-2.0"})
    _same(detector, load_detector(path))
    assert read_metadata(path) == {"source": "a test", "licence": "Apache-2.0"}


def test_half_precision_files_are_half_as_large_and_load_as_float32(detector, tmp_path):
    save_detector(detector, tmp_path / "half.safetensors", dtype=torch.float16)
    save_detector(detector, tmp_path / "full.safetensors")
    sizes = [(tmp_path / f"{n}.safetensors").stat().st_size for n in ("half", "full")]
    assert sizes[0] < 0.6 * sizes[1]
    loaded = load_detector(tmp_path / "half.safetensors")
    for name, value in loaded.state_dict().items():
        expected = detector.state_dict()[name]
        assert value.dtype == expected.dtype
        assert_close(value, expected, rtol=1e-3, atol=1e-4)


def test_lightning_checkpoint(detector, tmp_path):
    weights = {f"detector.{k}": v for k, v in detector.state_dict().items()}
    content = {"state_dict": {**weights, "other.weight": torch.zeros(1)}, "epoch": 3}
    torch.save({**content, DESCRIPTION: describe_detector(detector)}, tmp_path / "last.ckpt")
    _same(detector, load_detector(tmp_path / "last.ckpt"))


def test_yaml_gives_random_weights_and_coco_names_for_80_classes(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("model: {detector: {image_size: 64, backbone: {width: 0.25, groups: [2, 4]}}}")
    detector = load_detector(path)
    assert detector.config.backbone.groups == (2, 4)
    assert detector.categories.names[0] == "person"
    assert detector.categories.ids[-1] == 90
    path.write_text("model: {detector: {image_size: 64, num_classes: 2}}")
    assert load_detector(path).categories.names == ("class 1", "class 2")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("model: {}", "has no model.detector mapping"),
        ("- 1", "has no model.detector mapping"),
        ("model: [", "not readable as YAML"),
        ("model: {detector: {num_clases: 2}}", r"model.detector has no field \['num_clases'\]"),
        ("model: {detector: {backbone: {name: vgg}}}", "backbone.name must be one of"),
        ("model: {detector: {backbone: {groups: [2]}}}", "backbone.groups must have 2 values"),
        ("model: {detector: {image_size: 1.5}}", "image_size must be a whole number"),
        ("model: {detector: {image_size: true}}", "image_size must be a whole number"),
        ("model: {detector: {backbone: {width: wide}}}", "width must be a number"),
        ("model: {detector: {num_classes: 0}}", "num_classes must be >= 1"),
    ],
)
def test_a_wrong_yaml_is_refused_by_file_and_field(tmp_path, text, complaint):
    path = tmp_path / "wrong.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=complaint) as caught:
        read_config(path)
    assert str(path) in str(caught.value)


def test_a_yaml_that_cannot_be_built_is_named(tmp_path):
    path = tmp_path / "narrow.yaml"
    path.write_text("model: {detector: {backbone: {width: 0.02}}}")
    with pytest.raises(ValueError, match=r"narrow\.yaml: backbone\.width 0\.02 leaves none"):
        load_detector(path)


@pytest.mark.parametrize("suffix", ["safetensors", "ckpt", "yaml"])
def test_a_missing_file_is_named(tmp_path, suffix):
    with pytest.raises(FileNotFoundError, match=f"gone.{suffix}: no such file"):
        load_detector(tmp_path / f"gone.{suffix}")


@pytest.mark.parametrize("suffix", ["safetensors", "ckpt"])
@pytest.mark.parametrize("content", [b"", b"not a checkpoint at all", b"PK\x03\x04 cut"])
def test_unreadable_files_are_named(tmp_path, suffix, content):
    path = tmp_path / f"rubbish.{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"rubbish.{suffix}: "):
        load_detector(path)


@pytest.mark.parametrize("size", [100, 20_000, 39_000])
def test_a_checkpoint_that_is_cut_off_is_named(tmp_path, size):
    path = tmp_path / "cut.ckpt"
    torch.save({"state_dict": {"detector.a": torch.zeros(10_000)}}, path)
    path.write_bytes(path.read_bytes()[:size])
    for mmap in (False, True):
        with pytest.raises(ValueError, match=r"cut\.ckpt: not a readable checkpoint \("):
            read_torch(path, mmap=mmap)


def test_a_truncated_file_is_refused_by_name(detector, tmp_path):
    path = tmp_path / "cut.safetensors"
    save_detector(detector, path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"cut.safetensors: not a readable"):
        load_detector(path)


def test_other_suffixes_are_refused(tmp_path):
    path = tmp_path / "model.h5"
    path.touch()
    with pytest.raises(ValueError, match=r"not '.h5'"):
        load_detector(path)
    with pytest.raises(ValueError, match=r"is a \.safetensors file"):
        save_detector(build_detector(CONFIG), path)


def test_foreign_files_have_no_description(tmp_path):
    save_file({"weight": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    torch.save({"state_dict": {}}, tmp_path / "foreign.ckpt")
    for name in ("foreign.safetensors", "foreign.ckpt"):
        with pytest.raises(ValueError, match=f"{name}: carries no 'igcv3det' description"):
            load_detector(tmp_path / name)


def _rewrite(path, tensors, change):
    with_description = {"format": 1, **change}
    save_file(tensors, path, {DESCRIPTION: json.dumps(with_description)})


def test_a_false_description_is_refused(detector, tmp_path):
    path = tmp_path / "w.safetensors"
    save_detector(detector, path)
    tensors = load_file(path)
    described = describe_detector(detector)
    _rewrite(path, tensors, {**described, "format": 99})
    with pytest.raises(ValueError, match=r"w.safetensors: format 99; this version reads 1"):
        load_detector(path)
    _rewrite(path, tensors, {"detector": described["detector"]})
    with pytest.raises(ValueError, match=r"w.safetensors: the description lacks 'categories'"):
        load_detector(path)
    three = {"ids": [1, 2, 3], "names": ["a", "b", "c"]}
    _rewrite(path, tensors, {**described, "categories": three})
    with pytest.raises(ValueError, match=r"w.safetensors: num_classes is 2, but there are 3"):
        load_detector(path)
    save_file(tensors, path, {DESCRIPTION: "{"})
    with pytest.raises(ValueError, match=r"w.safetensors: its 'igcv3det' description is not JSON"):
        load_detector(path)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("detector", 3, "DetectorConfig must be a mapping, got 3"),
        ("categories", [], "categories must be a mapping"),
        ("categories", {"ids": [1, 2]}, r"categories lacks \['names'\]"),
        ("categories", {"ids": [1, float("inf")], "names": ["a", "b"]}, "ids must be a whole"),
        ("categories", {"ids": [1, 2], "names": ["a", 3]}, "names must be of type str, got 3"),
        ("categories", {"ids": [1, 2], "names": "ab"}, "names must be a list, got 'ab'"),
    ],
)
def test_a_description_of_other_types_is_refused(detector, tmp_path, key, value, message):
    path = tmp_path / "w.safetensors"
    save_detector(detector, path)
    _rewrite(path, load_file(path), {**describe_detector(detector), key: value})
    with pytest.raises(ValueError, match=rf"w\.safetensors: .*{message}"):
        load_detector(path)


def test_a_deployed_copy_is_not_saved(detector, tmp_path):
    state = torch.get_rng_state()
    save_detector(detector, tmp_path / "w.safetensors")
    assert torch.equal(torch.get_rng_state(), state)
    path = tmp_path / "deployed.safetensors"
    with pytest.raises(ValueError, match=r"deployed\.safetensors: .*not a copy for inference"):
        save_detector(deploy(detector), path)
    assert not path.exists()


def test_a_detector_of_numpys_numbers_is_saved(tmp_path):
    config = dataclasses.replace(CONFIG, num_classes=np.int64(2), image_size=np.int32(64))
    save_detector(build_detector(config, CATEGORIES), tmp_path / "w.safetensors")
    assert load_detector(tmp_path / "w.safetensors").config == CONFIG


def test_a_description_keeps_fields_without_effect(tmp_path):
    config = dataclasses.replace(CONFIG, head=HeadConfig(stride8_channels=8))
    save_detector(build_detector(config, CATEGORIES), tmp_path / "w.safetensors")
    assert load_detector(tmp_path / "w.safetensors").config == config


def test_weights_that_do_not_fit_are_named(detector, tmp_path):
    path = tmp_path / "w.safetensors"
    save_detector(detector, path)
    tensors = load_file(path)
    stem = tensors.pop("backbone.stem.0.weight")
    save_file(
        {**tensors, "extra": stem, "head.regression.0.1.bias": torch.zeros(1)},
        path,
        {DESCRIPTION: json.dumps(describe_detector(detector))},
    )
    with pytest.raises(ValueError, match=r"w.safetensors: weights do not fit") as caught:
        load_detector(path)
    message = str(caught.value)
    assert "missing backbone.stem.0.weight" in message
    assert "unknown extra" in message
    assert "head.regression.0.1.bias has shape (1,), not (12,)" in message


def test_torchvisions_imagenet_weights_become_a_backbone(tmp_path):
    oracle = torchvision.models.mobilenet_v2().eval()
    torch.save(oracle.state_dict(), tmp_path / "mobilenet_v2.pth")
    config = DetectorConfig(image_size=64, backbone=BackboneConfig(name="mobilenetv2"))
    detector = build_detector(config).eval()
    load_backbone(detector.backbone, tmp_path / "mobilenet_v2.pth")
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert_close(detector.backbone.forward_features(x)[-1], oracle.features(x))


def test_a_backbone_of_another_width_is_refused_by_name(tmp_path):
    torch.save(mobilenet_v2(10, width=0.5).state_dict(), tmp_path / "half.pth")
    detector = build_detector(
        DetectorConfig(image_size=64, backbone=BackboneConfig(name="mobilenetv2"))
    )
    with pytest.raises(ValueError, match=r"half.pth: weights do not fit: .* has shape"):
        load_backbone(detector.backbone, tmp_path / "half.pth")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"norm_eps": 1e-3}, r"d\.safetensors: .*backbone\.norm_eps 1e-05, not 0\.001"),
        ({"relu": "both"}, r"backbone\.relu depthwise, not both"),
        ({"norm_momentum": 0.5, "dropout": 0.1}, None),
    ],
)
def test_a_backbone_that_computes_something_else_is_refused(detector, tmp_path, changes, message):
    save_detector(detector, tmp_path / "d.safetensors")
    config = dataclasses.replace(CONFIG.backbone, **changes)
    backbone = build_detector(dataclasses.replace(CONFIG, backbone=config)).backbone
    if message is None:
        load_backbone(backbone, tmp_path / "d.safetensors", config)
    else:
        with pytest.raises(ValueError, match=message):
            load_backbone(backbone, tmp_path / "d.safetensors", config)


@pytest.mark.parametrize("held", [3, [], {"backbone": 3}, {"backbone": {"width": "wide"}}])
def test_a_backbone_beside_another_description(detector, tmp_path, held):
    """What is no description of a backbone is not read; what is one must fit."""
    path = tmp_path / "d.safetensors"
    _rewrite(path, dict(detector.state_dict()), {"detector": held})
    if isinstance(held, dict):
        with pytest.raises(ValueError, match=r"d\.safetensors: backbone(\.width)? must be a"):
            load_backbone(build_detector(CONFIG).backbone, path, CONFIG.backbone)
    else:
        load_backbone(build_detector(CONFIG).backbone, path, CONFIG.backbone)


def test_a_detectors_backbone_serves_another_detector(detector, tmp_path):
    save_detector(detector, tmp_path / "d.safetensors")
    fresh = build_detector(CONFIG)
    load_backbone(fresh.backbone, tmp_path / "d.safetensors")
    for name, value in fresh.backbone.state_dict().items():
        assert_close(value, detector.backbone.state_dict()[name], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (3, "its weights are not a mapping"),
        ({1: torch.zeros(2)}, "its weights are not a mapping"),
        (
            {"detector.backbone.stem.0.weight": 3},
            r"backbone\.stem\.0\.weight is no tensor",
        ),
    ],
)
def test_weights_that_are_none_are_named(detector, tmp_path, weights, message):
    file = tmp_path / "a.ckpt"
    torch.save({"state_dict": weights, DESCRIPTION: describe_detector(detector)}, file)
    with pytest.raises(ValueError, match=message):
        load_detector(file)


def test_damage_inside_a_pickle_names_the_file(tmp_path):
    """The name of an entry is no UTF-8."""
    file = tmp_path / "a.ckpt"
    torch.save({"name": 1}, file)
    data = file.read_bytes()
    file.write_bytes(data.replace(b"X\x04\x00\x00\x00name", b"X\x04\x00\x00\x00\xfeame"))
    assert file.read_bytes() != data
    with pytest.raises(ValueError, match=r"a\.ckpt: not a readable checkpoint"):
        read_torch(file)
