"""The same data in every layout trains on the same batches and has the same AP, bit by bit."""

import numpy as np
import pytest
import torch
from layouts import LAYOUTS, write_layout

from igcv3det.config import AugmentConfig
from igcv3det.datasets.dataset import Dataset
from igcv3det.evaluation import CocoEvaluator
from igcv3det.structures import Detections
from igcv3det.tasks.detect.datamodule import CocoDataModule


def batches(folder):
    data = CocoDataModule(
        folder, batch_size=2, num_workers=0, image_size=32, augment=AugmentConfig(preset="ssd")
    )
    return [batch for _ in range(2) for batch in data.train_dataloader()]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return {name: write_layout(tmp_path_factory.mktemp(name), name).folder for name in LAYOUTS}


@pytest.fixture(scope="module")
def expected(folders):
    return batches(folders["coco"])


@pytest.mark.parametrize("layout", LAYOUTS[1:])
def test_training_batches(folders, expected, layout):
    for (images, targets), (others, same) in zip(batches(folders[layout]), expected, strict=True):
        assert torch.equal(images, others)
        for target, other in zip(targets, same, strict=True):
            assert torch.equal(target.boxes, other.boxes)
            assert torch.equal(target.labels, other.labels)
            assert target[2].equal(other[2])
            assert target[3:] == other[3:]


def metrics(folder):
    """Scores fixed, shifted detections of each image."""
    record, _ = Dataset(folder).read("val")
    evaluator = CocoEvaluator(record, record.categories)
    for row, image_id in enumerate(evaluator.image_ids):
        rng = np.random.default_rng(row)
        boxes = record.boxes[record.image_rows == row]
        moved = boxes + rng.normal(0, 2, boxes.shape)
        moved[:, 2:] += moved[:, :2]
        labels = torch.from_numpy(record.labels[record.image_rows == row].astype(np.int64))
        scores = torch.from_numpy(rng.random(len(boxes), np.float32)).sort(descending=True)[0]
        found = Detections(torch.from_numpy(moved.astype(np.float32)), scores, labels)
        evaluator.update([image_id], [found])
    found = evaluator.compute()
    assert 0.1 < found["AP"] < 1
    return found


@pytest.mark.parametrize("layout", LAYOUTS[1:])
def test_average_precision(folders, layout):
    np.testing.assert_equal(metrics(folders[layout]), metrics(folders["coco"]))


def test_classes_without_a_box(tmp_path, caplog):
    folder, _ = write_layout(tmp_path, "yolo")
    text = (folder / "data.yaml").read_text()
    (folder / "data.yaml").write_text(text + "  3: unicorn\n")
    data = CocoDataModule(folder, num_workers=0, image_size=32)
    data.setup("fit")
    assert data.categories.names == ("cat", "dog", "zebra", "unicorn")
    assert "no training box of 1 of 4 classes: unicorn; --data.drop_empty_classes" in caplog.text
    caplog.clear()
    data = CocoDataModule(folder, num_workers=0, image_size=32, drop_empty_classes=True)
    data.setup("fit")
    assert data.categories.names == ("cat", "dog", "zebra")
    assert data.train_store.categories == data.categories
    assert caplog.text == ""


def test_two_classes_of_one_name_stay_apart_without_the_empty_ones(tmp_path):
    folder, _ = write_layout(tmp_path, "yolo")
    text = (folder / "data.yaml").read_text()
    (folder / "data.yaml").write_text(text.replace("dog", "cat") + "  3: cat\n")
    data = CocoDataModule(folder, num_workers=0, image_size=32)
    data.setup("fit")
    labels = data.train_store.labels.tolist()
    data = CocoDataModule(folder, num_workers=0, image_size=32, drop_empty_classes=True)
    data.setup("fit")
    assert data.categories.ids == (1, 2, 3)
    assert data.categories.names == ("cat", "cat", "zebra")
    assert data.train_store.labels.tolist() == labels
    assert data.splits.left_out == ["cat"]


def test_classes_with_boxes_in_the_validation_split_alone(tmp_path, caplog):
    folder, _ = write_layout(tmp_path, "yolo")
    text = (folder / "data.yaml").read_text()
    (folder / "data.yaml").write_text(text + "  3: unicorn\n")
    label = next(path for path in sorted(folder.rglob("*.txt")) if "val" in path.parts)
    label.write_text(label.read_text() + "3 0.5 0.5 0.2 0.2\n")
    data = CocoDataModule(folder, num_workers=0, image_size=32, drop_empty_classes=True)
    data.setup("fit")
    assert data.categories.names == ("cat", "dog", "zebra", "unicorn")
    assert "unicorn; the validation split has boxes of them" in caplog.text
    assert "drop_empty_classes" not in caplog.text
