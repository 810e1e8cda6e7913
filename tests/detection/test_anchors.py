"""Anchors against arithmetic by hand and torchvision's generator."""

import dataclasses
import math

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.image_list import ImageList

from igcv3det.config import AnchorConfig
from igcv3det.detection.anchors import anchors_per_cell, generate_anchors, read_centres
from igcv3det.models.layers import same_padding

SIZES_320 = [(20, 20), (10, 10), (5, 5), (3, 3), (2, 2), (1, 1)]
SIZES_300 = [(19, 19), (10, 10), (5, 5), (3, 3), (2, 2), (1, 1)]
TENSORFLOW = AnchorConfig(layout="tensorflow", reduce_lowest=True)


def torchvision_anchors(ratios, sizes, image_size, **scales):
    generator = DefaultBoxGenerator([list(ratios)] * len(sizes), **scales)
    images = ImageList(torch.zeros(1, 3, image_size, image_size), [(image_size, image_size)])
    return generator(images, [torch.zeros(1, 1, *size) for size in sizes])[0]


@pytest.mark.parametrize(
    ("ratios", "sizes", "image_size"),
    [
        ((2.0, 3.0), SIZES_320, 320),
        ((2.0, 3.0), SIZES_300, 300),
        ((2.0,), [(41, 41), (21, 21), (11, 11)], 321),
        ((2.0, 3.0), [(4, 4), (2, 2)], 64),
        ((2.0, 3.0), [(4, 4)], 64),
        ((), [(3, 5), (2, 3)], 96),
    ],
    ids=["320", "300", "odd-321", "two-levels", "one-level", "oblong-maps-squares-only"],
)
def test_torchvision_layout_equals_torchvision(ratios, sizes, image_size):
    ours = generate_anchors(AnchorConfig(aspect_ratios=ratios), image_size, sizes)
    theirs = torchvision_anchors(ratios, sizes, image_size, min_ratio=0.2, max_ratio=0.95)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("config", "sizes", "total"),
    [
        (AnchorConfig(), SIZES_320, 3234),
        (TENSORFLOW, SIZES_300, 1917),
        (TENSORFLOW, SIZES_320, 2034),
        (AnchorConfig(layout="tensorflow"), SIZES_320, 3234),
    ],
    ids=["torchvision-320", "tensorflow-300", "tensorflow-320", "tensorflow-full-320"],
)
def test_total(config, sizes, total):
    per_cell = anchors_per_cell(config, len(sizes))
    assert generate_anchors(config, 320, sizes).shape == (total, 4)
    assert sum(n * h * w for n, (h, w) in zip(per_cell, sizes, strict=True)) == total


def test_anchors_per_cell():
    assert anchors_per_cell(AnchorConfig(), 3) == [6, 6, 6]
    assert anchors_per_cell(TENSORFLOW, 3) == [3, 6, 6]
    assert anchors_per_cell(AnchorConfig(aspect_ratios=(2.0,)), 1) == [4]


def centred(width, height, centre=(50.0, 50.0)):
    (x, y) = centre
    return [x - width / 2, y - height / 2, x + width / 2, y + height / 2]


def test_torchvision_layout_by_hand():
    # One level: scales 0.2 and 0.95. 100 px: squares of 20 and sqrt(20 * 95) = 43.589; area 400 at
    # ratio 2: 20 * 1.41421 = 28.2843 by 14.1421.
    anchors = generate_anchors(AnchorConfig(aspect_ratios=(2.0,)), 100, [(1, 1)])
    expected = [
        centred(20, 20),
        centred(43.58899, 43.58899),
        centred(28.28427, 14.14214),
        centred(14.14214, 28.28427),
    ]
    torch.testing.assert_close(anchors, torch.tensor(expected))


def test_tensorflow_layout_by_hand():
    # Two levels: scales 0.2, 0.95 and 1 after them. Finest map 2 x 2, reduced: 0.1 square, 0.2 at
    # ratios 2 and 1/2. Coarse map: 0.95 at 1, 2, 1/2, 3, 0.3333, then sqrt(0.95) = 0.974679.
    anchors = generate_anchors(TENSORFLOW, 100, [(2, 2), (1, 1)])
    expected = [
        shape
        for centre in [(25, 25), (75, 25), (25, 75), (75, 75)]
        for shape in (
            centred(10, 10, centre),
            centred(28.28427, 14.14214, centre),
            centred(14.14214, 28.28427, centre),
        )
    ]
    expected += [
        centred(95, 95),
        centred(134.35029, 67.17514),
        centred(67.17514, 134.35029),
        centred(164.54483, 54.84828),
        centred(95 * math.sqrt(0.3333), 95 / math.sqrt(0.3333)),
        centred(97.46794, 97.46794),
    ]
    torch.testing.assert_close(anchors, torch.tensor(expected))


def test_order_is_rows_then_columns_then_shapes():
    anchors = generate_anchors(AnchorConfig(aspect_ratios=()), 100, [(2, 4)])
    centres = (anchors[:, :2] + anchors[:, 2:]) / 2
    expected = [[x, y] for y in (25.0, 75.0) for x in (12.5, 37.5, 62.5, 87.5) for _ in range(2)]
    torch.testing.assert_close(centres, torch.tensor(expected))


@pytest.mark.parametrize("layout", ["torchvision", "tensorflow"])
def test_only_torchvision_limits_sides_to_the_input(layout):
    config = AnchorConfig(layout=layout)
    anchors = generate_anchors(config, 100, [(1, 1), (1, 1)])
    longest = (anchors[:, 2:] - anchors[:, :2]).max().item()
    assert longest == pytest.approx(100.0 if layout == "torchvision" else 95 / math.sqrt(0.3333))


def test_reduced_lowest_map_in_the_torchvision_layout():
    anchors = generate_anchors(AnchorConfig(reduce_lowest=True), 100, [(1, 1), (1, 1)])
    expected = [centred(10, 10), centred(28.28427, 14.14214), centred(14.14214, 28.28427)]
    torch.testing.assert_close(anchors[:3], torch.tensor(expected))
    assert len(anchors) == 3 + 6


@pytest.mark.parametrize("config", [AnchorConfig(), TENSORFLOW], ids=["torchvision", "tensorflow"])
@pytest.mark.parametrize("sizes", [SIZES_320, SIZES_300], ids=["320", "300"])
def test_horizontal_flip_maps_the_anchors_onto_themselves(config, sizes):
    anchors = generate_anchors(config, 320, sizes)
    flipped = torch.stack(
        [320 - anchors[:, 2], anchors[:, 1], 320 - anchors[:, 0], anchors[:, 3]], dim=1
    )
    distance, partner = torch.cdist(flipped, anchors, p=torch.inf).min(dim=1)
    assert distance.max() < 1e-3
    assert partner.unique().numel() == len(anchors)


def test_no_level_is_an_error():
    with pytest.raises(ValueError, match="at least one feature map, got 0"):
        generate_anchors(AnchorConfig(), 320, [])


def test_empty_map_is_an_error():
    with pytest.raises(ValueError, match="must have cells, got 0 x 1"):
        generate_anchors(AnchorConfig(), 320, [(0, 1)])


def read_positions(side, halvings, padding):
    """Where the middle taps of stride-2 convolutions end up: the pixel's centre for each cell."""
    x = (torch.arange(side, dtype=torch.float64) + 0.5).expand(1, 1, side, side)
    middle = torch.zeros(1, 1, 3, 3, dtype=torch.float64)
    middle[..., 1, 1] = 1
    for _ in range(halvings):
        sides = same_padding(x, (3, 3), (2, 2)) if padding == "same" else [1, 1, 1, 1]
        x = F.conv2d(F.pad(x, sides), middle, stride=2)
    return x[0, 0, 0]


@pytest.mark.parametrize("padding", ["same", "symmetric"])
@pytest.mark.parametrize("side", [300, 272, 268, 256, 97])
@pytest.mark.parametrize("halvings", [4, 5, 7])
def test_read_centres_are_the_pixels_that_convolutions_read(side, halvings, padding):
    found = torch.from_numpy(read_centres(side, halvings, padding))
    assert_close(found, read_positions(side, halvings, padding))


def map_sides(side, levels=6):
    sides = [math.ceil(side / 16)]
    while len(sides) < levels:
        sides.append(math.ceil(sides[-1] / 2))
    return [(n, n) for n in sides]


def centres_and_sides(anchors):
    return (anchors[:, :2] + anchors[:, 2:]) / 2, anchors[:, 2:] - anchors[:, :2]


@pytest.mark.parametrize("padding", ["same", "symmetric"])
@pytest.mark.parametrize("size", [268, 236, 224, 320])
def test_anchors_of_another_size_keep_their_pixels(size, padding):
    config = dataclasses.replace(TENSORFLOW, trained_size=300)
    found = generate_anchors(config, size, map_sides(size), padding)
    assert found.shape == generate_anchors(TENSORFLOW, size, map_sides(size)).shape
    sides = centres_and_sides(found)[1]
    before = centres_and_sides(generate_anchors(TENSORFLOW, 300, map_sides(300)))[1]
    per_cell = anchors_per_cell(TENSORFLOW, 6)
    start = end = 0
    for count, (n, _), (m, _) in zip(per_cell, map_sides(size), map_sides(300), strict=True):
        assert_close(sides[start : start + count], before[end : end + count])
        start, end = start + count * n * n, end + count * m * m


def test_anchors_of_another_size_lie_around_what_cells_read_by_hand():
    # TensorFlow's padding. 24 px: cells read pixels 7.5 and 23.5, anchors lie at 6 and 18, 1.5 and
    # 5.5 to the left. 40 px: cells read 7.5, 23.5 and 39.5, which is 4.5, 14.1 and 23.7 of 24
    config = AnchorConfig(aspect_ratios=(), trained_size=24)
    centres, sides = centres_and_sides(generate_anchors(config, 40, [(3, 3)], "same"))
    expected = torch.tensor([7.5 - 1.5, 23.5 - 1.5 - 4 * 6.6 / 16, 39.5 - 5.5])
    assert_close(centres.reshape(3, 3, 2, 2)[0, :, 0, 0], expected)
    assert_close(centres.reshape(3, 3, 2, 2)[:, 0, 0, 1], expected)
    assert_close(sides[0], torch.tensor([0.2 * 24, 0.2 * 24]))


def test_anchors_at_the_trained_size_are_the_usual_ones():
    config = dataclasses.replace(TENSORFLOW, trained_size=300)
    usual = generate_anchors(TENSORFLOW, 300, map_sides(300))
    assert torch.equal(generate_anchors(config, 300, map_sides(300), "same"), usual)


def test_a_first_map_that_halving_does_not_make():
    config = AnchorConfig(trained_size=320)
    with pytest.raises(ValueError, match="halving 300 pixels does not make 20 cells"):
        generate_anchors(config, 300, [(20, 20)])
