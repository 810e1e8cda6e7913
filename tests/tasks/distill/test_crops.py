import pytest
import torch
from torch.testing import assert_close

from igcv3det.tasks.distill.config import ViewConfig
from igcv3det.tasks.distill.crops import boxes_in_views, random_crops

PLAIN = {"min_scale": 1.0, "max_scale": 1.0, "max_aspect": 1.0, "colour": 0.0}


def noise_images(batch=3, side=64):
    return torch.randint(0, 256, (batch, side, side, 3), dtype=torch.uint8)


def planes(pixels):
    return pixels.permute(0, 3, 1, 2).float()


def test_a_plain_view_is_the_image():
    pixels = noise_images()
    images, regions = random_crops(pixels, ViewConfig(size=64, flip=0.0, **PLAIN), (0,))
    assert_close(images, planes(pixels), rtol=0, atol=0)
    assert_close(regions, torch.tensor([[0.0, 0.0, 64.0, 64.0]]).expand(3, 4))


def test_a_mirrored_view_is_the_mirrored_image():
    pixels = noise_images()
    images, regions = random_crops(pixels, ViewConfig(size=64, flip=1.0, **PLAIN), (0,))
    assert_close(images, planes(pixels).flip(3), rtol=0, atol=0)
    assert_close(regions[0], torch.tensor([64.0, 0.0, 0.0, 64.0]))


def test_a_cut_of_unchanged_size_interpolates_between_neighbours():
    # a ramp of 2 grey levels a pixel: bilinear samples of it are exact wherever they fall
    ramp = (2 * torch.arange(64)).to(torch.uint8)
    pixels = ramp.reshape(1, 1, 64, 1).expand(1, 64, 64, 3)
    images, regions = random_crops(pixels, ViewConfig(size=32, flip=0.0, **PLAIN), (5,))
    x0 = regions[0, 0]
    expected = 2 * (x0 + torch.arange(32))
    assert_close(images[0, 0, 7], expected, rtol=0, atol=1e-3)


def test_magnification_and_flip_follow_the_region():
    ramp = (3 * torch.arange(64)).to(torch.uint8)
    pixels = ramp.reshape(1, 1, 64, 1).expand(1, 64, 64, 3)
    config = ViewConfig(size=32, min_scale=2.0, max_scale=2.0, max_aspect=1.0, flip=1.0, colour=0.0)
    images, regions = random_crops(pixels, config, (1,))
    x0, _, x1, _ = regions[0]
    assert_close(x0 - x1, torch.tensor(16.0))  # mirrored, 16 pixels shown by 32
    centres = x0 - (torch.arange(32) + 0.5) / 2
    assert_close(images[0, 1, 3], 3 * (centres - 0.5), rtol=0, atol=1e-3)


def test_views_depend_on_the_entropy_alone():
    pixels, config = noise_images(), ViewConfig(size=32)
    one, same, other = (
        random_crops(pixels, config, entropy) for entropy in ((1, 2), (1, 2), (1, 3))
    )
    assert_close(one, same, rtol=0, atol=0)
    assert not torch.equal(one.images, other.images)


def test_colours_stay_in_range_and_change():
    pixels = noise_images()
    images, _ = random_crops(
        pixels, ViewConfig(size=64, flip=0.0, **{**PLAIN, "colour": 0.5}), (0,)
    )
    assert images.min() >= 0
    assert images.max() <= 255
    assert not torch.allclose(images, planes(pixels))


def test_a_grey_image_keeps_its_grey_under_saturation_and_contrast():
    pixels = torch.full((4, 48, 48, 3), 100, dtype=torch.uint8)
    images, _ = random_crops(
        pixels, ViewConfig(size=48, flip=0.0, **{**PLAIN, "colour": 0.3}), (0,)
    )
    # of a single grey level only brightness is left, between 70 and 130
    assert_close(images, images[:, :1, :1, :1].expand_as(images), rtol=0, atol=1e-3)
    assert ((images > 69.9) & (images < 130.1)).all()


@pytest.mark.parametrize(
    ("region", "expected"),
    [
        ([0.0, 0.0, 100.0, 100.0], [5.0, 10.0, 20.0, 30.0]),
        ([10.0, 20.0, 60.0, 70.0], [0.0, 0.0, 30.0, 40.0]),
        # mirrored: x counts from the right edge of the region
        ([60.0, 20.0, 10.0, 70.0], [20.0, 0.0, 50.0, 40.0]),
    ],
)
def test_boxes_by_hand(region, expected):
    boxes = {0: [10.0, 20.0, 40.0, 60.0]}[0]
    size = 50
    assert_close(
        boxes_in_views(torch.tensor([boxes]), torch.tensor(region), size),
        torch.tensor([expected]),
    )


def test_no_boxes():
    region = torch.tensor([0.0, 0.0, 10.0, 10.0])
    assert boxes_in_views(torch.zeros(0, 4), region, 5).shape == (0, 4)


@pytest.mark.parametrize(
    "wrong", [{"size": 8}, {"min_scale": 2.0}, {"flip": 1.5}, {"colour": 1.0}, {"max_aspect": 0.5}]
)
def test_ranges(wrong):
    with pytest.raises(ValueError, match="view"):
        ViewConfig(**wrong)
