"""Detections as Python programs use them: loops, masks, plain values, supervision, drawing."""

import importlib

import numpy as np
import pytest
import torch
from coco_files import THREE, save_tiny_detector, write_noise
from PIL import Image

from igcv3det.io.frames import Frame
from igcv3det.io.image_detections import ImageDetections
from igcv3det.io.records import frame_record
from igcv3det.predictor import Predictor
from igcv3det.structures import Detections

BOXES = torch.tensor([[0.0, 0, 10, 10], [5, 5, 20, 30], [1, 2, 3, 4]])


@pytest.fixture
def found():
    return Detections(BOXES, torch.tensor([0.9, 0.6, 0.2]), torch.tensor([2, 1, 3]), THREE)


def test_a_loop(found):
    assert [(box.tolist(), round(score, 2), name) for box, score, name in found] == [
        ([0, 0, 10, 10], 0.9, "dog"),
        ([5, 5, 20, 30], 0.6, "cat"),
        ([1, 2, 3, 4], 0.2, "zebra"),
    ]
    assert list(Detections.empty(THREE)) == []
    with pytest.raises(ValueError, match="no categories"):
        iter(Detections(found.boxes, found.scores, found.labels))


@pytest.mark.parametrize(
    ("rows", "names"),
    [
        (torch.tensor([True, False, True]), ["dog", "zebra"]),
        (np.array([False, True, False]), ["cat"]),
        ([True, True, False], ["dog", "cat"]),
        (torch.tensor([2, 0]), ["zebra", "dog"]),
        ([], []),
        (slice(1, None), ["cat", "zebra"]),
        (-1, ["zebra"]),
        (torch.tensor(1), ["cat"]),
        (np.int64(1), ["cat"]),
        (np.array([0, 1, 2])[::-1], ["zebra", "cat", "dog"]),
    ],
)
def test_some_of_them(found, rows, names):
    assert found[rows].names == names
    assert len(found[rows].boxes) == len(names)
    assert found[rows].categories is THREE


@pytest.mark.parametrize("classes", ["dog", 3, ["dog"], ("3",), {3}, (name for name in ["dog"])])
def test_classes_by_name_and_id(classes):
    assert THREE.labels_of(classes) == [2]


def test_plain_values_are_those_of_the_records(found, tmp_path):
    image = np.zeros((40, 30, 3), np.uint8)
    record = frame_record(Frame(tmp_path / "a.png", image), found)
    own = found.to_dict()
    assert own.keys() == {"detections"}
    for row, other in zip(own["detections"], record["detections"], strict=True):
        assert {**row, "score": round(row["score"], 6)} == other


def test_supervision(found):
    pytest.importorskip("supervision", reason="an optional package")
    other = found[:2].to_supervision()
    np.testing.assert_array_equal(other.xyxy, BOXES[:2].numpy())
    assert other.class_id.tolist() == [1, 0]
    assert other.data["class_name"].tolist() == ["dog", "cat"]
    assert len(other[other.confidence > 0.7]) == 1
    assert len(Detections.empty(THREE).to_supervision()) == 0


def test_without_supervision(found, monkeypatch):
    def missing(name, *args):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ImportError, match="pip install supervision"):
        found.to_supervision()


@pytest.fixture(scope="module")
def predictor(tmp_path_factory):
    path = save_tiny_detector(tmp_path_factory.mktemp("weights") / "tiny.safetensors")
    return Predictor.load(path, device="auto", score_threshold=0.0)


def test_options_of_a_call(predictor, tmp_path):
    image = write_noise(tmp_path / "a.png", 60, 90)
    every = predictor(image)
    assert len(every) > 10
    assert len(predictor(image, threshold=0.2)) == len(every.above(0.2)) > 0
    assert len(predictor(image, threshold=0.9)) == 0
    cats = predictor(image, classes=["cat", "zebra"])
    assert set(cats.names) <= {"cat", "zebra"}
    own = [score for score, name in zip(every.scores, every.names, strict=True) if name != "dog"]
    assert cats.scores.tolist()[: len(own)] == own  # and those that dogs had taken the places of
    with pytest.raises(ValueError, match="no class 'cats'; did you mean 'cat'"):
        predictor(image, classes=["cats"])
    with pytest.raises(ValueError, match="score_threshold"):
        predictor(image, threshold=2)


def test_a_list_gives_a_list(predictor, tmp_path):
    images = [write_noise(tmp_path / f"{i}.png", 30 + i, 40, i) for i in range(18)]
    several = predictor(images, threshold=0.1)
    assert [one.source for one in several] == images
    torch.testing.assert_close(several[17].scores, predictor(images[17], threshold=0.1).scores)
    assert predictor([]) == []


def test_drawing(predictor, tmp_path):
    path = write_noise(tmp_path / "a.png", 60, 90)
    found = predictor(path)[:3]
    assert isinstance(found, ImageDetections)
    drawn = found.plot()
    assert drawn.size == (90, 60)
    assert not np.array_equal(np.asarray(drawn), np.asarray(Image.open(path)))
    array = np.asarray(Image.open(path))
    assert np.array_equal(np.asarray(drawn), np.asarray(found.plot(array)))
    with pytest.raises(ValueError, match="no image: pass it to plot"):
        ImageDetections(found.boxes, found.scores, found.labels, THREE).plot()
