"""A user's albumentations pipeline: read from its own serialisation, checked, repeatable."""

import json

import albumentations
import numpy as np
import pytest
import torch
import yaml
from synthetic import write_coco

from igcv3det.config import AugmentConfig, PreprocessConfig
from igcv3det.preprocess import Preprocess
from igcv3det.tasks.detect.augmentation_file import load_augmentation
from igcv3det.tasks.detect.datamodule import CocoDataModule
from igcv3det.tasks.detect.transforms import Example, TrainTransform

PREPROCESS = Preprocess(PreprocessConfig(mean=(0.0,) * 3, std=(1.0,) * 3), 64)
NAME = "__class_fullname__"
SMALL = [(96, 128)]


def pipeline(*steps, **bbox_params):
    boxes = {"format": "pascal_voc", "label_fields": ["class_labels"], **bbox_params}
    return albumentations.Compose(list(steps), bbox_params=albumentations.BboxParams(**boxes))


def saved(path, *steps, **bbox_params):
    kind = "yaml" if path.suffix == ".yaml" else "json"
    albumentations.save(pipeline(*steps, **bbox_params), path, data_format=kind)
    return path


def transform(own, seed=0):
    return TrainTransform(AugmentConfig(), PREPROCESS, seed, own)


def example():
    """A red object on grey, and a green crowd region."""
    image = np.full((96, 128, 3), 90, dtype=np.uint8)
    image[20:60, 16:64], image[70:90, 80:120] = (250, 10, 10), (10, 250, 10)
    boxes = np.array([[16, 20, 64, 60], [80, 70, 120, 90]], dtype=np.float32)
    return Example(image, boxes, np.array([3, 0]))


@pytest.mark.parametrize("name", ["a.json", "a.yaml"])
def test_boxes_labels_and_size_after_a_flip_and_a_transposition(tmp_path, name):
    steps = albumentations.HorizontalFlip(p=1), albumentations.Transpose(p=1)
    own = load_augmentation(saved(tmp_path / name, *steps), SMALL)
    found = transform(own)(example(), (0, 0))
    assert found.image.shape == (3, 64, 64)
    assert found.labels.tolist() == [3, 0]
    # x mirrored in 128 pixels, then x and y exchanged, each as a share of its side times 64
    np.testing.assert_allclose(found.boxes[0], [20 * 64 / 96, 32, 60 * 64 / 96, 56], atol=1e-4)
    red = found.image[0].numpy() > 200
    rows, columns = np.nonzero(red)
    seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    np.testing.assert_allclose(found.boxes[0], seen, atol=1.0)


def test_draws_follow_from_seed_epoch_and_index(tmp_path):
    steps = [
        albumentations.Affine(rotate=(-20, 20), p=0.8),
        albumentations.OneOf([albumentations.GaussianBlur(p=1), albumentations.GaussNoise(p=1)]),
        albumentations.RandomBrightnessContrast(p=0.5),
    ]
    own = load_augmentation(saved(tmp_path / "a.json", *steps), SMALL)
    one, other = transform(own), transform(load_augmentation(own.path, SMALL))
    one(example(), (0, 5))  # earlier samples have no influence
    for key in [(0, 0), (0, 1), (3, 1)]:
        first, second = one(example(), key), other(example(), key)
        assert torch.equal(first.image, second.image)
        np.testing.assert_array_equal(first.boxes, second.boxes)
    assert not torch.equal(one(example(), (0, 0)).image, one(example(), (1, 0)).image)
    assert not torch.equal(
        one(example(), (0, 0)).image, transform(own, seed=1)(example(), (0, 0)).image
    )


def test_limits_of_boxes_are_those_of_the_file(tmp_path):
    crop = albumentations.Crop(x_min=48, y_min=0, x_max=128, y_max=96, p=1)  # a third is left
    for least, expected in [(0.2, [3, 0]), (0.5, [0])]:
        path = saved(tmp_path / f"{least}.json", crop, min_visibility=least)
        found = transform(load_augmentation(path, SMALL))(example(), (0, 0))
        assert found.labels.tolist() == expected


@pytest.mark.parametrize(
    "step",
    [
        albumentations.PadIfNeeded(200, 200, p=1),  # writes an argument that it then warns of
        albumentations.SafeRotate(p=1),
        albumentations.RandomResizedCrop((48, 48), p=1),
        albumentations.CoarseDropout(p=1),
        albumentations.GridDistortion(p=1),
        albumentations.D4(p=1),
    ],
    ids=lambda step: type(step).__name__,
)
def test_transforms_that_can_be_used(tmp_path, step):
    own = load_augmentation(saved(tmp_path / "a.json", step), SMALL)
    assert transform(own)(example(), (0, 0)).image.shape == (3, 64, 64)


def _tree(*steps, **others):
    return {"transform": {NAME: "Compose", "transforms": list(steps), **others}}


def _step(name, **arguments):
    return {NAME: name, "p": 1.0, **arguments}


PLACE = "transform.transforms[0]"
WRONG = {
    "no mapping": ([1], "no pipeline: expects what albumentations.save writes"),
    "no name": (_tree({"p": 1.0}), f"{PLACE}: no transform"),
    "unknown transform": (_tree(_step("HorizontlFlip")), "did you mean HorizontalFlip?"),
    "unknown argument": (_tree(_step("Rotate", limits=9)), f"{PLACE} (Rotate): no argument limits"),
    "wrong value": (_tree(_step("Rotate", limit="x")), f"{PLACE} (Rotate): limit:"),
    "nested": (
        _tree(_step("OneOf", transforms=[_step("HorizontalFlip"), _step("Nothing")])),
        f"{PLACE}.transforms[1]: albumentations has no transform 'Nothing'",
    ),
    "mask": (_tree(_step("MaskDropout")), f"{PLACE}: MaskDropout needs mask"),
    "mosaic": (_tree(_step("Mosaic")), "--data.mosaic has mosaics"),
    "3D": (_tree(_step("CubicSymmetry")), "does not move boxes with the image"),
    "normalised": (_tree(_step("Normalize")), "leave out Normalize"),
    "keypoints": (_tree(keypoint_params={"format": "xy"}), "transform.keypoint_params"),
    "inner boxes": (
        _tree(_step("Compose", transforms=[], bbox_params={"format": "coco"})),
        f"{PLACE}.bbox_params: of the outermost composition only",
    ),
    "boxes": (_tree(bbox_params={"min_area": "big"}), "transform.bbox_params.min_area"),
    "one channel": (_tree(_step("ToGray", num_output_channels=1)), "gives no uint8 image"),
    "too large": (_tree(_step("RandomCrop", height=200, width=99)), "fails on an image of 128x96"),
    "nothing left": (
        _tree(_step("NoOp"), bbox_params={"min_width": 1000}),
        "loses all boxes of an image of 128x96 pixels",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_used_is_named_in_one_line(tmp_path, name):
    content, expected = WRONG[name]
    path = tmp_path / "a.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="json") as error:
        load_augmentation(path, SMALL)
    message = str(error.value)
    assert message.startswith(f"{path}: ")
    assert expected in message
    assert "\n" not in message


def test_boxes_that_stay_behind_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(
        albumentations.HorizontalFlip, "apply_to_bboxes", lambda self, bboxes, **_: bboxes
    )
    with pytest.raises(ValueError, match="does not move boxes with their objects"):
        load_augmentation(saved(tmp_path / "a.json", albumentations.HorizontalFlip(p=1)), SMALL)


@pytest.mark.parametrize("limit", [{"min_area": 100}, {"min_width": 12}, {"max_accept_ratio": 3}])
def test_limits_count_in_pixels_of_the_files_own_images(tmp_path, limit):
    """A 40 x 40 box of a 1920 x 1080 image is 1.3 x 2.4 px in the network input."""
    own = load_augmentation(saved(tmp_path / "a.json", albumentations.HorizontalFlip(p=1), **limit))
    image = np.zeros((1080, 1920, 3), np.uint8)
    boxes = np.array([[0, 0, 40, 40], [500, 100, 600, 240], [900, 500, 1000, 700]], np.float32)
    found = transform(own)(Example(image, boxes, np.array([1, 2, 3])), (0, 0))
    assert sorted(found.labels.tolist()) == [1, 2, 3]


def test_a_mosaics_canvas_is_among_the_sizes_that_are_tried(tmp_path):
    root = tmp_path / "data"
    for split in ("train2017", "val2017"):
        write_coco(root, split)
    file = saved(tmp_path / "a.json", albumentations.RandomCrop(24, 24, p=1))
    options = {"batch_size": 2, "num_workers": 0, "image_size": 10, "augmentation": str(file)}
    CocoDataModule(root, **options).setup("fit")
    with pytest.raises(ValueError, match="transform fails on an image of 20x20 pixels"):
        CocoDataModule(root, **options, mosaic=1.0).setup("fit")


def test_the_data_module_takes_the_file(tmp_path):
    root = tmp_path / "data"
    for split in ("train2017", "val2017"):
        write_coco(root, split)
    path = saved(tmp_path / "a.yaml", albumentations.VerticalFlip(p=1))
    options = {"batch_size": 2, "num_workers": 0, "image_size": 32}
    own = CocoDataModule(root, augmentation=str(path), **options)
    plain = CocoDataModule(root, augment=AugmentConfig(preset="none"), **options)
    own.setup("fit")
    for (images, targets), (expected, others) in zip(
        own.train_dataloader(), plain.train_dataloader(), strict=True
    ):
        for target, other in zip(targets, others, strict=True):
            mirrored = other.boxes.clone()
            mirrored[:, [1, 3]] = 32 - other.boxes[:, [3, 1]]
            torch.testing.assert_close(target.boxes, mirrored, atol=1e-3, rtol=0)
        # the image is flipped before it is resized, so the rounding differs
        assert (images.flip(2) - expected).abs().max() < 0.05
    assert own.state_dict().keys() - plain.state_dict().keys() == {"augmentation"}
    path.write_text(yaml.safe_dump({"transform": {NAME: "Nothing"}}))
    with pytest.raises(ValueError, match="no transform 'Nothing'"):
        CocoDataModule(root, augmentation=str(path), **options).setup("fit")
