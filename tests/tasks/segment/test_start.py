"""Starting from detectors, classifiers and segmenters; choosing how to train."""

import dataclasses

import pytest
import torch
from mask_folders import VOID, write_masks

from igcv3det.checkpoint import load_backbone, save_detector
from igcv3det.config import BackboneConfig, DetectorConfig, PreprocessConfig
from igcv3det.detector import build_backbone, build_detector
from igcv3det.tasks.classify.checkpoint import Classifier, save_classifier
from igcv3det.tasks.classify.config import ClassifierConfig
from igcv3det.tasks.classify.networks import build_network
from igcv3det.tasks.detect.step_time import StepTime
from igcv3det.tasks.segment import plan
from igcv3det.tasks.segment.checkpoint import save_segmenter
from igcv3det.tasks.segment.config import SegmenterConfig
from igcv3det.tasks.segment.datamodule import MaskDataModule
from igcv3det.tasks.segment.masks import ClassLabels
from igcv3det.tasks.segment.network import Segmenter
from igcv3det.tasks.segment.plan import SegmentationPlan
from igcv3det.tasks.segment.start import load_start, starting_fields
from igcv3det.tasks.segment.step_time import measure_step

BACKBONE = BackboneConfig(width=0.125, repeats=(1,) * 7)
CONFIG = SegmenterConfig(3, (32, 32), padding="same", backbone=BACKBONE, mean=(1.0, 2.0, 3.0))
CLASSES = ClassLabels((0, 1, 2), (), ("a", "b", "c"))


@pytest.fixture
def files(tmp_path):
    """A file of each kind with the same backbone configuration."""
    preprocess = PreprocessConfig(mean=(1.0, 2.0, 3.0))
    detector = DetectorConfig(2, 64, padding="same", backbone=BACKBONE, preprocess=preprocess)
    save_detector(build_detector(detector), tmp_path / "detector.safetensors")
    classifier = ClassifierConfig(3, backbone=BACKBONE, mean=(1.0, 2.0, 3.0))
    network = build_network(classifier)
    save_classifier(
        Classifier(network, classifier, CLASSES.names), tmp_path / "classifier.safetensors"
    )
    save_segmenter(Segmenter(CONFIG, CLASSES.names), CLASSES, tmp_path / "segmenter.safetensors")
    torch.save(build_backbone(BACKBONE, 3).state_dict(), tmp_path / "plain.pth")
    return {path.stem: path for path in tmp_path.iterdir()}


@pytest.mark.parametrize("kind", ["detector", "classifier", "segmenter", "plain"])
def test_the_backbone_of_any_file(files, kind):
    fields = starting_fields(files[kind])
    if kind != "plain":
        assert fields["mean"] == pytest.approx((1, 2, 3))
        assert fields["backbone.width"] == 0.125
        assert "num_classes" not in fields
    padding = fields.get("padding", "symmetric")
    segmenter = Segmenter(dataclasses.replace(CONFIG, padding=padding), ("x", "y", "z"))
    before = {key: value.clone() for key, value in segmenter.state_dict().items()}
    load_start(segmenter, files[kind])
    other = build_backbone(BACKBONE)
    if kind == "segmenter":  # a detector starts from it too
        load_backbone(other, files[kind], BACKBONE)
        for name, value in other.state_dict().items():
            assert torch.equal(segmenter.backbone.state_dict()[name], value)
    changed = {
        name.split(".")[0]
        for name, value in segmenter.state_dict().items()
        if not torch.equal(before[name], value)
    }
    assert changed == ({"backbone", "head"} if kind == "segmenter" else {"backbone"})


def test_class_layers_are_kept_for_the_same_names_alone(files):
    for names, kept in ((CLASSES.names, True), (("a", "b", "d"), False)):
        segmenter = Segmenter(CONFIG, names)
        before = segmenter.head.low_classifier.weight.detach().clone()
        load_start(segmenter, files["segmenter"])
        assert torch.equal(segmenter.head.low_classifier.weight, before) != kept


def test_another_network_is_refused(files):
    other = Segmenter(dataclasses.replace(CONFIG, padding="symmetric"), CLASSES.names)
    with pytest.raises(ValueError, match=r"trained with padding same, not symmetric"):
        load_start(other, files["detector"])
    wide = dataclasses.replace(CONFIG, backbone=BackboneConfig(width=0.25, repeats=(1,) * 7))
    with pytest.raises(ValueError, match=r"trained with backbone\.width 0\.125, not 0\.25"):
        load_start(Segmenter(wide, CLASSES.names), files["detector"])


def chosen(folder, given=None, **options):
    given = {"data.ignore": [VOID], **(given or {})}
    choices = SegmentationPlan(folder, given, "mobilenetv2", **options).choices()
    return {key: value for choice in choices for key, value in choice.options.items()}


def test_choices(tmp_path):
    folder = write_masks(tmp_path / "set", {"train": 5, "val": 1}, size=(80, 200))
    found = chosen(folder)
    assert found["model.segmenter.image_size"] == [96, 192]  # 2.5 and 6.25 times 32
    assert found["data.batch_size"] == 5
    assert found["trainer.max_epochs"] == 200
    assert found["trainer.check_val_every_n_epoch"] == 40
    assert found["model.loss.balance"] == 0.5
    found = chosen(folder, epochs=9)
    assert (found["trainer.max_epochs"], found["trainer.check_val_every_n_epoch"]) == (9, 3)
    found = chosen(folder, epochs=11)
    assert found["trainer.check_val_every_n_epoch"] == 11  # the last epoch is validated
    given = {"model.segmenter.image_size": [32, 64], "trainer.max_steps": 7}
    found = chosen(folder, given)
    assert found["model.segmenter.image_size"] == [32, 64]
    assert "trainer.max_epochs" not in found


def test_large_images_are_shrunk(tmp_path):
    folder = write_masks(tmp_path / "set", {"train": 1, "val": 1}, size=(1080, 1920))
    height, width = chosen(folder)["model.segmenter.image_size"]
    assert (height, width) == (384, 672)
    assert height * width <= 512 * 512


def test_minutes_become_steps(tmp_path, monkeypatch):
    """4 steps an epoch of 2 s, one core loads for 2 s: 3 s a step; a validation 0.4 * 2 * 3 / 4."""
    monkeypatch.setattr(plan, "measure_step", lambda *_: StepTime(2.0, 2.0))
    monkeypatch.setattr(plan.os, "cpu_count", lambda: 2)
    folder = write_masks(tmp_path / "set", {"train": 16, "val": 2})
    given = {"data.batch_size": 4}
    found = chosen(folder, given, minutes=10)
    assert found["trainer.max_steps"] == (600 - 5 * 0.6) // 3
    assert found["trainer.check_val_every_n_epoch"] == 10  # of 49.75
    assert "trainer.max_epochs" not in found
    found = chosen(folder, given, minutes=0.2)  # less than an epoch of 12 s: one validation
    assert found["trainer.max_steps"] == (12 - 0.6) // 3
    assert found["trainer.check_val_every_n_epoch"] == 1


def test_steps_are_measured(tmp_path):
    folder = write_masks(tmp_path / "set", {"train": 3, "val": 1})
    data = MaskDataModule(folder, ignore=(VOID,))
    found = measure_step(data, CONFIG, 2, "bf16-mixed")
    assert 0 < found.load < 60
    assert 0 < found.compute < 60
