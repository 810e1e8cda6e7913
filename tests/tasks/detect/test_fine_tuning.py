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

SPLIT = {"class_ranks": (8, None, 8, 4), "class_groups": ((1, 1), (1, 1), (2, 2), (1, 2))}
"""Heads whose class layer is the second, the third or the fourth of a map's."""


def build(categories, head=None):
    head = dataclasses.replace(tiny.DETECTOR.head, **(head or {}))
    config = dataclasses.replace(tiny.DETECTOR, num_classes=len(categories), head=head)
    return build_detector(config, categories)


def named(*names):
    return Categories(tuple(range(1, len(names) + 1)), names)


@pytest.fixture
def loaded(tmp_path, caplog):
    """Logits [anchors, columns] of a detector of some classes and of one that starts from it."""

    def load(source, target, head=None):
        torch.manual_seed(0)
        before = build(named(*source), head).eval()
        after = build(named(*target), head).eval()
        for detector in (before, after):
            for layer in detector.head.classification:
                torch.nn.init.normal_(layer[-1].bias)
        fresh = after.head.classification[0][-1].weight.clone()
        save_detector(before, tmp_path / "source.safetensors")
        with caplog.at_level(logging.INFO):
            load_for_fine_tuning(after, tmp_path / "source.safetensors")
        image = torch.randn(1, 3, before.config.image_size, before.config.image_size)
        with torch.no_grad():
            old, new = before(image), after(image)
        assert torch.equal(old.offsets, new.offsets)
        return old.logits[0], new.logits[0], (fresh, after.head.classification[0][-1].weight)

    return load


@pytest.mark.parametrize("head", [None, SPLIT], ids=["one 1x1", "split"])
def test_known_classes_keep_their_columns_and_the_background(loaded, caplog, head):
    old, new, (fresh, weight) = loaded(
        ("cat", "dog", "cup"), ("bird", "cup", "cat", "fox", "owl"), head
    )
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


def test_rows_that_come_into_another_group_are_reinitialised(tmp_path, caplog):
    # six anchors in four groups, of 6 rows before and of 9 after
    head = {"class_ranks": (8, None, None, None), "class_groups": ((1, 4), *[(1, 1)] * 3)}
    torch.manual_seed(0)
    source = build(named("a", "b", "c"), head)
    target = build(named("a", "b", "c", "d", "e"), head)
    fresh = target.head.classification[0][-1].weight.clone().reshape(6, 6, 2)
    save_detector(source, tmp_path / "source.safetensors")
    with caplog.at_level(logging.INFO):
        load_for_fine_tuning(target, tmp_path / "source.safetensors")
    found = target.head.classification[0][-1].weight.reshape(6, 6, 2)
    trained = source.head.classification[0][-1].weight.reshape(6, 4, 2)
    # the second anchor's 4, 5 | 6, 7 and 6, 7, 8 | 9; the fifth's 16, 17 | 18, 19 and 24 to 26 | 27
    kept = {(a, label) for a in range(6) for label in range(4)} - {(1, 2), (4, 2)}
    for anchor in range(6):
        for label in range(6):
            wanted = trained if (anchor, label) in kept else fresh
            assert torch.equal(found[anchor, label], wanted[anchor, label])
    assert "rows of kept classes reinitialised: 2," in caplog.text
    reduce = [detector.head.classification[0][1].weight for detector in (source, target)]
    assert torch.equal(*reduce)
