"""Resize and normalisation against torch, hand arithmetic and TensorFlow's definition."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from igcv3det.config import PreprocessConfig
from igcv3det.preprocess import Preprocess

RNG = np.random.default_rng(0)


def noise_image(height, width):
    return RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_bilinear_is_torch_interpolate_rounded():
    image = noise_image(37, 53)
    resized = Preprocess(PreprocessConfig(), 32).resize(image)
    planes = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    expected = F.interpolate(planes, (32, 32), mode="bilinear", align_corners=False)[0]
    assert resized.dtype == np.uint8
    found = torch.from_numpy(resized).permute(2, 0, 1).float()
    # OpenCV computes with 11-bit weights
    torch.testing.assert_close(found, expected, atol=1.0, rtol=0)


def test_tensorflow_resize_by_hand():
    # 4 -> 3: sources 0, 4/3, 8/3; 2 -> 3: sources 0, 2/3, 4/3 (row 1 and itself)
    image = np.repeat(
        np.array([[0, 30, 60, 90], [100, 130, 160, 190]], dtype=np.uint8)[..., None], 3, axis=2
    )
    resized = Preprocess(PreprocessConfig(resize="tensorflow"), 3).resize(image)
    rows = np.array([0, 200 / 3, 100])
    expected = rows[:, None] + np.array([0, 40, 80])
    assert resized.dtype == np.float32
    np.testing.assert_allclose(resized[..., 1], expected, rtol=1e-6)


def test_tensorflow_resize_against_its_definition():
    image = noise_image(50, 41)
    size = 30
    resized = Preprocess(PreprocessConfig(resize="tensorflow"), size).resize(image)
    pixels = image.astype(np.float64)
    for row, column in [(0, 0), (29, 29), (7, 21), (28, 3)]:
        y, x = row * 50 / size, column * 41 / size
        top, left = int(y), int(x)
        bottom, right = min(top + 1, 49), min(left + 1, 40)
        dy, dx = y - top, x - left
        expected = (
            pixels[top, left] * (1 - dy) * (1 - dx)
            + pixels[top, right] * (1 - dy) * dx
            + pixels[bottom, left] * dy * (1 - dx)
            + pixels[bottom, right] * dy * dx
        )
        np.testing.assert_allclose(resized[row, column], expected, atol=1e-3)


@pytest.mark.parametrize("resize", ["bilinear", "tensorflow"])
def test_same_size_changes_nothing(resize):
    image = noise_image(32, 32)
    resized = Preprocess(PreprocessConfig(resize=resize), 32).resize(image)
    np.testing.assert_array_equal(resized, image)


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 1)])
@pytest.mark.parametrize("resize", ["bilinear", "tensorflow"])
def test_one_pixel_sides(resize, shape):
    image = np.full((*shape, 3), 77, dtype=np.uint8)
    resized = Preprocess(PreprocessConfig(resize=resize), 32).resize(image)
    assert resized.shape == (32, 32, 3)
    assert (resized == 77).all()


def test_normalize_per_channel():
    config = PreprocessConfig(mean=(0.0, 100.0, 200.0), std=(1.0, 2.0, 4.0))
    image = np.empty((32, 32, 3), dtype=np.uint8)
    image[...] = (10, 120, 240)
    tensor = Preprocess(config, 32)(image)
    assert tensor.shape == (3, 32, 32)
    assert tensor.dtype == torch.float32
    assert tensor.is_contiguous()
    torch.testing.assert_close(tensor[:, 5, 5], torch.tensor([10.0, 10.0, 10.0]))


def test_default_range_is_minus_one_to_one():
    preprocess = Preprocess(PreprocessConfig(), 32)
    ends = np.zeros((32, 32, 3), dtype=np.uint8)
    ends[0] = 255
    tensor = preprocess(ends)
    assert tensor.min() == -1
    assert tensor.max() == 1


@pytest.mark.parametrize("resize", ["bilinear", "tensorflow"])
def test_arrays_of_any_strides(resize):
    image = noise_image(40, 40)
    preprocess = Preprocess(PreprocessConfig(resize=resize), 32)
    for view in (image[5:30, 3:29], image[:, :, ::-1], image[::-1, ::2]):
        torch.testing.assert_close(preprocess(view), preprocess(view.copy()), rtol=0, atol=0)


def test_scale_boxes_takes_height_first():
    boxes = np.array([[10.0, 10.0, 20.0, 30.0]], dtype=np.float32)
    preprocess = Preprocess(PreprocessConfig(), 320)
    expected = [[5.0, 10.0, 10.0, 30.0]]  # 640 wide, 320 high
    scaled = preprocess.scale_boxes(boxes, (320, 640))
    assert scaled.tolist() == expected
    assert scaled.dtype == np.float32
    assert preprocess.scale_boxes(torch.from_numpy(boxes), (320, 640)).tolist() == expected


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), dtype=np.uint8),
        np.zeros((4, 4, 4), dtype=np.uint8),
        np.zeros((4, 4, 3), dtype=np.float32),
        np.zeros((0, 4, 3), dtype=np.uint8),
    ],
    ids=["grey", "alpha", "float", "empty"],
)
def test_other_arrays_are_refused(image):
    with pytest.raises(ValueError, match="uint8 array"):
        Preprocess(PreprocessConfig(), 32).resize(image)
