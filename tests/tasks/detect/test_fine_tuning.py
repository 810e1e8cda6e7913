"""Which columns of a trained head a detector of other classes takes: both detectors' outputs."""

import dataclasses
import logging

import pytest
import tiny
import torch

from igcv3det import save_detector
from igcv3det.detector import build_detector
from igcv3det.structures import Categories
from igcv3det.tasks.detect.fine_tuning import load_for_fine_tuning


def build(categories):
    config = dataclasses.replace(tiny.DETECTOR, num_classes=len(categories))
    return build_detector(config, categories)


def named(*names):
    return Categories(tuple(range(1, len(names) + 1)), names)


@pytest.fixture
def loaded(tmp_path, caplog):
    """Logits [anchors, columns] of a detector of some classes and of one that starts from it."""

    def load(source, target):
        torch.manual_seed(0)
        before = build(named(*source)).eval()
        after = build(named(*target)).eval()
        fresh = after.head.classification[0][1].weight.clone()
        save_detector(before, tmp_path / "source.safetensors")
        with caplog.at_level(logging.INFO):
            load_for_fine_tuning(after, tmp_path / "source.safetensors")
        image = torch.randn(1, 3, before.config.image_size, before.config.image_size)
        with torch.no_grad():
            old, new = before(image), after(image)
        assert torch.equal(old.offsets, new.offsets)
        return old.logits[0], new.logits[0], (fresh, after.head.classification[0][1].weight)

    return load


def test_known_classes_keep_their_columns_and_the_background(loaded, caplog):
    old, new, (fresh, weight) = loaded(("cat", "dog", "cup"), ("bird", "cup", "cat", "fox", "owl"))
    torch.testing.assert_close(new[:, [0, 2, 3]], old[:, [0, 3, 1]])
    unknown = [1, 4, 5]
    columns = (-1, 6, *fresh.shape[1:])
    assert torch.equal(weight.reshape(columns)[:, unknown], fresh.reshape(columns)[:, unknown])
    assert "classification head reinitialised for 3 of 5 classes: bird, fox, owl" in caplog.text


def test_as_many_classes_in_another_order(loaded, caplog):
    old, new, _ = loaded(("cat", "dog", "cup"), ("cup", "cat", "dog"))
    torch.testing.assert_close(new, old[:, [0, 3, 1, 2]])
    assert "classification head of all 3 classes kept" in caplog.text


def test_as_many_renamed_classes_are_taken_in_order(loaded, caplog):
    old, new, _ = loaded(("cat", "dog"), ("Katze", "Hund"))
    assert torch.equal(new, old)
    assert "taken in order" in caplog.text


def test_another_number_of_unknown_classes_reinitialises_their_layers(loaded, caplog):
    _, _, (fresh, weight) = loaded(("cat", "dog"), ("red cell", "white cell", "platelet"))
    assert torch.equal(weight, fresh)
    assert (
        "classification head reinitialised for 3 of 3 classes: red cell, white cell, platelet"
        in caplog.text
    )
