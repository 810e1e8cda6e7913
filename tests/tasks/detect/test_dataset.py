import numpy as np
import pytest
import torch
from synthetic import COLOURS, write_coco

from igcv3det.config import AugmentConfig, PreprocessConfig
from igcv3det.datasets.checks import load_annotations
from igcv3det.io.images import ImageReadError, ImageSizeError
from igcv3det.preprocess import Preprocess
from igcv3det.tasks.detect.dataset import CocoDetection
from igcv3det.tasks.detect.transforms import EvalTransform, TrainTransform

SIZE = 64
PREPROCESS = Preprocess(PreprocessConfig(mean=(0.0,) * 3, std=(1.0,) * 3), SIZE)


def data(paths, transform=None):
    store, _ = load_annotations(paths.annotations, paths.images)
    return CocoDetection(store, paths.images, transform or EvalTransform(PREPROCESS))


def test_targets_are_the_annotations_stretched(tmp_path):
    paths = write_coco(tmp_path)
    dataset = data(paths)
    assert len(dataset) == 6
    labels = {3: 1, 7: 2, 90: 3}
    for index, entry in enumerate(paths.content["images"]):
        image, target = dataset[index]
        own = [a for a in paths.content["annotations"] if a["image_id"] == entry["id"]]
        assert image.shape == (3, SIZE, SIZE)
        assert image.dtype == torch.float32
        assert target.image_id == entry["id"]
        assert target.original_size == (entry["height"], entry["width"])
        assert target.labels.tolist() == [labels[a["category_id"]] for a in own if not a["iscrowd"]]
        x, y = SIZE / entry["width"], SIZE / entry["height"]
        for kind, boxes in ((0, target.boxes), (1, target.crowds)):
            expected = [
                [
                    a["bbox"][0] * x,
                    a["bbox"][1] * y,
                    sum(a["bbox"][::2]) * x,
                    sum(a["bbox"][1::2]) * y,
                ]
                for a in own
                if a["iscrowd"] == kind
            ]
            torch.testing.assert_close(boxes, torch.tensor(expected).reshape(-1, 4))


def test_turned_cmyk_and_plain_images_show_their_objects(tmp_path):
    paths = write_coco(tmp_path)
    dataset = data(paths)
    for index, entry in enumerate(paths.content["images"]):
        if entry["file_name"] == "grey.jpg":
            continue
        image, target = dataset[index]
        for box, label in zip(target.boxes, target.labels, strict=True):
            column, row = ((box[:2] + box[2:]) / 2).long().tolist()
            colour = torch.tensor(list(COLOURS.values())[label - 1], dtype=torch.float32)
            torch.testing.assert_close(image[:, row, column], colour, atol=12, rtol=0)


def test_an_image_without_objects(tmp_path):
    _, target = data(write_coco(tmp_path))[1]
    assert target.boxes.shape == target.crowds.shape == (0, 4)
    assert target.boxes.dtype == target.crowds.dtype == torch.float32
    assert target.labels.shape == (0,)
    assert target.labels.dtype == torch.int64


def test_a_crowd_region_is_no_object(tmp_path):
    _, target = data(write_coco(tmp_path))[5]
    assert len(target.boxes) == len(target.labels) == len(target.crowds) == 1


def test_key_with_epoch_and_without(tmp_path):
    transform = TrainTransform(AugmentConfig(preset="ssd"), PREPROCESS)
    dataset = data(write_coco(tmp_path), transform)
    assert torch.equal(dataset[0][0], dataset[(0, 0)][0])
    assert not torch.equal(dataset[(1, 0)][0], dataset[(0, 0)][0])


@pytest.mark.parametrize(
    ("kind", "error"), [("unreadable file", ImageReadError), ("size mismatch", ImageSizeError)]
)
def test_a_broken_image_is_named(tmp_path, kind, error):
    dataset = data(write_coco(tmp_path, issues=[kind]))
    with pytest.raises(error, match=r"plain\.png"):
        dataset[0]


def test_store_is_shared_not_copied(tmp_path):
    dataset = data(write_coco(tmp_path))
    before = dataset.store.boxes.copy()
    for index in range(len(dataset)):
        dataset[index][1].boxes.mul_(0)
    np.testing.assert_array_equal(dataset.store.boxes, before)
