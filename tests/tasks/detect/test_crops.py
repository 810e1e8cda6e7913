import cv2
import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from igcv3det.config import PreprocessConfig
from igcv3det.preprocess import Preprocess
from igcv3det.tasks.detect import crops as crops_module

CANVAS = np.array([0.0, 0.0, 200.0, 100.0])
BOXES = np.array([[10.0, 10, 60, 50], [150, 70, 190, 95]])


def crops(canvas=CANVAS, boxes=BOXES, min_scale=0.3, draws=400):
    rng = np.random.default_rng(0)
    return np.stack(
        [crops_module.random_iou_crop(rng, canvas, boxes, min_scale) for _ in range(draws)]
    )


def test_crops_keep_the_rules_of_ssd():
    found = crops()
    sides = found[:, 2:] - found[:, :2]
    cut = found[(found != CANVAS).any(axis=1)]
    assert (sides >= 0.3 * np.array([200, 100]) - 1e-9).all()
    assert (found[:, :2] >= 0).all()
    assert (found[:, 2:] <= CANVAS[2:] + 1e-9).all()
    ratios = (cut[:, 2] - cut[:, 0]) / (cut[:, 3] - cut[:, 1])
    assert ((ratios >= 0.5) & (ratios <= 2)).all()
    centres = (BOXES[:, :2] + BOXES[:, 2:]) / 2
    inside = (cut[:, None, :2] < centres) & (centres < cut[:, None, 2:])
    assert inside.all(axis=2).any(axis=1).all()
    # one option of seven keeps the whole
    assert 0.75 < len(cut) / len(found) < 0.95


@pytest.mark.parametrize("min_iou", [0.0, 0.3, 0.5, 0.7])
def test_crops_overlap_an_object_as_drawn(monkeypatch, min_iou):
    monkeypatch.setattr(crops_module, "MIN_IOUS", (min_iou,))
    big = np.array([[20.0, 10, 160, 90]])
    found = crops(boxes=big)
    cut = found[(found != CANVAS).any(axis=1)]
    ious = box_iou(torch.from_numpy(cut), torch.from_numpy(big))
    assert len(cut) > 100
    assert ious.min() >= min_iou


def test_impossible_crops():
    # all four aspect ratios of a thin strip are out of bounds, so only the whole is left
    strip = np.array([0.0, 0.0, 4000.0, 10.0])
    assert (crops(strip, np.array([[5.0, 1, 9, 9]]), draws=5) == strip).all()


def test_expansion_holds_the_image():
    rng = np.random.default_rng(0)
    found = np.stack([crops_module.random_expand(rng, 100, 200, 4.0) for _ in range(400)])
    sides = found[:, 2:] - found[:, :2]
    scales = sides / [200, 100]
    np.testing.assert_allclose(scales[:, 0], scales[:, 1])
    assert scales.min() == 1
    assert 3.5 < scales.max() <= 4
    assert (found[:, :2] <= 0).all()
    assert (found[:, 2:] >= [200, 100]).all()
    assert 0.4 < (scales[:, 0] > 1).mean() < 0.6


def test_centre_must_be_strictly_inside():
    crop = np.array([0.0, 0, 10, 10])
    boxes = np.array([[8.0, 0, 12, 4], [7.0, 0, 12, 4], [-1.0, -1, 1, 1]])
    assert crops_module.contains_center(crop, boxes).tolist() == [False, True, False]


def test_whole_pixels_only_within_the_image():
    inside = np.array([1.2, 2.0, 8.5, 9.1])
    assert crops_module.whole_pixels(inside, 10, 10).tolist() == [1, 2, 9, 10]
    beyond = np.array([-0.2, 2.0, 8.5, 9.1])
    assert crops_module.whole_pixels(beyond, 10, 10).tolist() == beyond.tolist()


@pytest.mark.parametrize("resize", ["bilinear", "tensorflow"])
def test_a_crop_inside_is_the_resized_slice(resize):
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    preprocess = Preprocess(PreprocessConfig(resize=resize), 32)
    crop = np.array([10.0, 5, 70, 55])
    np.testing.assert_array_equal(
        crops_module.resize_crop(image, crop, preprocess), preprocess.resize(image[5:55, 10:70])
    )


@pytest.mark.parametrize("resize", ["bilinear", "tensorflow"])
def test_a_crop_beyond_is_the_padded_image_resized(resize):
    # smooth, so that interpolation at 1/32 pixel (OpenCV's warp) and exact agree to a level or two
    image = np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    image = cv2.resize(image, (160, 120), interpolation=cv2.INTER_CUBIC)
    config = PreprocessConfig(mean=(10.0, 20.0, 30.0), resize=resize)
    preprocess = Preprocess(config, 64)
    padded = cv2.copyMakeBorder(image, 40, 80, 32, 64, cv2.BORDER_CONSTANT, value=config.mean)
    crop = np.array([-32.0, -40, 160 + 64, 120 + 80])
    expected = preprocess.resize(padded).astype(float)
    difference = np.abs(crops_module.resize_crop(image, crop, preprocess) - expected)
    # at the border of the image a target pixel mixes both
    assert np.quantile(difference, 0.95) <= 3
    assert np.median(difference) <= 1
    assert crops_module.resize_crop(image, crop, preprocess)[0, 0].tolist() == [10, 20, 30]
