import pytest
import torch
from torch.testing import assert_close

from igcv3det.tasks.distill.config import CropConfig
from igcv3det.tasks.distill.crops import boxes_in_crops, random_crops

WHOLE = {"min_scale": 1.0, "max_scale": 1.0, "max_aspect": 1.0, "colour": 0.0}


def noise_images(batch=3, side=64):
    return torch.randint(0, 256, (batch, side, side, 3), dtype=torch.uint8)


def planes(pixels):
    return pixels.permute(0, 3, 1, 2).float()


def test_a_whole_crop_is_the_image():
    pixels = noise_images()
    images, regions = random_crops(pixels, CropConfig(size=64, flip=0.0, **WHOLE), (0,))
    assert_close(images, planes(pixels), rtol=0, atol=0)
    assert_close(regions, torch.tensor([[0.0, 0.0, 64.0, 64.0]]).expand(3, 4))


def test_a_mirrored_crop_is_the_mirrored_image():
    pixels = noise_images()
    images, regions = random_crops(pixels, CropConfig(size=64, flip=1.0, **WHOLE), (0,))
    assert_close(images, planes(pixels).flip(3), rtol=0, atol=0)
    assert_close(regions[0], torch.tensor([64.0, 0.0, 0.0, 64.0]))


def test_a_crop_of_unchanged_size_interpolates_between_neighbours():
    # a ramp of 2 grey levels a pixel: bilinear samples of it are exact wherever they fall
    ramp = (2 * torch.arange(64)).to(torch.uint8)
    pixels = ramp.reshape(1, 1, 64, 1).expand(1, 64, 64, 3)
    images, regions = random_crops(pixels, CropConfig(size=32, flip=0.0, **WHOLE), (5,))
    x0 = regions[0, 0]
    expected = 2 * (x0 + torch.arange(32))
    assert_close(images[0, 0, 7], expected, rtol=0, atol=1e-3)


def test_magnification_and_flip_follow_the_region():
    ramp = (3 * torch.arange(64)).to(torch.uint8)
    pixels = ramp.reshape(1, 1, 64, 1).expand(1, 64, 64, 3)
    config = CropConfig(size=32, min_scale=2.0, max_scale=2.0, max_aspect=1.0, flip=1.0, colour=0.0)
    images, regions = random_crops(pixels, config, (1,))
    x0, _, x1, _ = regions[0]
    assert_close(x0 - x1, torch.tensor(16.0))  # mirrored, 16 pixels shown by 32
    centres = x0 - (torch.arange(32) + 0.5) / 2
    assert_close(images[0, 1, 3], 3 * (centres - 0.5), rtol=0, atol=1e-3)


def test_crops_depend_on_the_entropy_alone():
    pixels, config = noise_images(), CropConfig(size=32)
    one, same, other = (
        random_crops(pixels, config, entropy) for entropy in ((1, 2), (1, 2), (1, 3))
    )
    assert_close(one, same, rtol=0, atol=0)
    assert not torch.equal(one.images, other.images)


def test_colours_stay_in_range_and_change():
    pixels = noise_images()
    images, _ = random_crops(
        pixels, CropConfig(size=64, flip=0.0, **{**WHOLE, "colour": 0.5}), (0,)
    )
    assert images.min() >= 0
    assert images.max() <= 255
    assert not torch.allclose(images, planes(pixels))


def test_a_grey_image_keeps_its_grey_under_saturation_and_contrast():
    pixels = torch.full((4, 48, 48, 3), 100, dtype=torch.uint8)
    images, _ = random_crops(
        pixels, CropConfig(size=48, flip=0.0, **{**WHOLE, "colour": 0.3}), (0,)
    )
    # of a single grey level only brightness is left, between 70 and 130
    assert_close(images, images[:, :1, :1, :1].expand_as(images), rtol=0, atol=1e-3)
    assert ((images > 69.9) & (images < 130.1)).all()


def test_sharpening_by_hand():
    # a pixel that is 50 brighter; its five-point Laplacian is 200 there and -50 beside it, that of
    # the Laplacian 1000, -400, 100 diagonally and 50 two pixels away
    pixels = torch.full((8, 32, 32, 3), 50, dtype=torch.uint8)
    pixels[:, 8, 8] = 100
    config = CropConfig(size=32, flip=0.0, **WHOLE, sharpen=1.0)
    images, _ = random_crops(pixels, config, (0,))
    change = images - planes(pixels)
    strength = change[:, 0, 9, 9] / 5  # 0.05 * 100
    assert (strength >= 0).all()
    assert (strength <= 1).all()
    assert strength.std() > 0.1
    for (row, column), expected in {
        (8, 8): 0.15 * 200 + 0.05 * 1000,
        (8, 9): 0.15 * -50 + 0.05 * -400,
        (6, 8): 0.05 * 50,
        (5, 8): 0.0,
    }.items():
        assert_close(change[:, 1, row, column], strength * expected, rtol=0, atol=1e-3)


def test_sharpening_leaves_plain_images_and_the_range():
    plain = torch.full((2, 32, 32, 3), 90, dtype=torch.uint8)
    config = CropConfig(size=32, flip=0.0, **WHOLE, sharpen=2.0)
    assert_close(random_crops(plain, config, (0,)).images, planes(plain), rtol=0, atol=1e-4)
    images, _ = random_crops(noise_images(side=32), config, (0,))
    assert (images.min(), images.max()) == (0, 255)


# the ranges of the shipped configurations, and a stretch alone: size and scale are the image's
STRETCHES = [
    {"size": 64, "min_scale": 1.0, "max_scale": 1.0, "max_aspect": 1.6},
    {"size": 64, "min_scale": 1.0, "max_scale": 1.6, "max_aspect": 1.3},
    {"size": 64, "min_scale": 1.0, "max_scale": 1.0, "max_aspect": 1.0},
    {"size": 64, "min_scale": 0.85, "max_scale": 1.3, "max_aspect": 1.25},
    {"size": 40, "min_scale": 0.75, "max_scale": 1.35, "max_aspect": 1.25},
]


@pytest.mark.parametrize("ranges", STRETCHES)
def test_the_box_of_a_rectangle_follows_it_into_every_crop(ranges):
    batch, side = 32, 64
    box = torch.tensor([24.0, 26.0, 36.0, 42.0])
    pixels = torch.zeros(batch, side, side, 3, dtype=torch.uint8)
    pixels[:, 26:42, 24:36] = 200
    config = CropConfig(colour=0.0, flip=0.5, **ranges)
    images, regions = random_crops(pixels, config, (3,))
    expected = boxes_in_crops(box.expand(batch, 4), regions, config.size)
    seen = 0
    for image, own in zip(images, expected, strict=True):
        if own.min() < 1 or own.max() > config.size - 1:
            continue  # cut by the border
        rows, columns = (torch.nonzero((image[0] > 100).any(dim=d)).flatten() for d in (1, 0))
        found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        # the threshold is half of the rectangle's grey level: edges are found to half a pixel
        assert_close(torch.stack(found).float(), own, rtol=0, atol=1.0)
        seen += 1
    assert seen >= batch // 3


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
        boxes_in_crops(torch.tensor([boxes]), torch.tensor(region), size),
        torch.tensor([expected]),
    )


def test_no_boxes():
    region = torch.tensor([0.0, 0.0, 10.0, 10.0])
    assert boxes_in_crops(torch.zeros(0, 4), region, 5).shape == (0, 4)


@pytest.mark.parametrize(
    "wrong",
    [
        *({"size": 8}, {"min_scale": 2.0}, {"flip": 1.5}, {"colour": 1.0}, {"max_aspect": 0.5}),
        {"sharpen": -1.0},
    ],
)
def test_ranges(wrong):
    with pytest.raises(ValueError, match="crop"):
        CropConfig(**wrong)
