import numpy as np
import pytest
import torch

from igcv3det.config import AugmentConfig, PreprocessConfig
from igcv3det.preprocess import Preprocess
from igcv3det.tasks.detect.transforms import EvalTransform, Example, TrainTransform

PRESETS = ["none", "flip", "ssdlite", "ssd"]
SIZE = 64
PREPROCESS = Preprocess(PreprocessConfig(), SIZE)
RED, BLUE, CROWD = (250, 10, 10), (10, 10, 250), (10, 250, 10)


def example(height=90, width=120):
    """Two objects and a crowd region, each in its colour."""
    image = np.full((height, width, 3), 128, dtype=np.uint8)
    boxes = np.array([[10, 20, 50, 60], [70, 30, 110, 80], [5, 65, 45, 85]], dtype=np.float32)
    for colour, (left, top, right, bottom) in zip(
        (RED, BLUE, CROWD), boxes.astype(int), strict=True
    ):
        image[top:bottom, left:right] = colour
    return Example(image, boxes, np.array([1, 2, 0]))


def train(preset="ssd", seed=0, preprocess=PREPROCESS, **changes):
    return TrainTransform(AugmentConfig(preset=preset, **changes), preprocess, seed)


@pytest.mark.parametrize("resize", ["bilinear", "tensorflow"])
def test_no_preset_is_evaluation(resize):
    preprocess = Preprocess(PreprocessConfig(resize=resize), SIZE)
    expected = EvalTransform(preprocess)(example(), (0, 0))
    found = train("none", preprocess=preprocess)(example(), (5, 3))
    torch.testing.assert_close(found.image, expected.image, rtol=0, atol=0)
    torch.testing.assert_close(found.image, preprocess(example().image), rtol=0, atol=0)
    np.testing.assert_allclose(found.boxes, expected.boxes, atol=1e-4)
    np.testing.assert_allclose(
        expected.boxes[0], [10 * 64 / 120, 20 * 64 / 90, 50 * 64 / 120, 60 * 64 / 90]
    )
    assert found.labels.tolist() == [1, 2, 0]


def test_evaluation_drops_nothing():
    boxes = np.array([[1.0, 1.0, 1.1, 1.1]], dtype=np.float32)
    small = Example(np.zeros((640, 640, 3), np.uint8), boxes, np.array([1]))
    assert len(EvalTransform(PREPROCESS)(small, (0, 0)).boxes) == 1


def test_training_drops_boxes_under_a_pixel():
    boxes = np.array([[1, 1, 9, 200], [1, 1, 21, 200]], dtype=np.float32)
    wide = Example(np.zeros((640, 640, 3), np.uint8), boxes, np.array([1, 2]))
    assert train("none")(wide, (0, 0)).labels.tolist() == [2]


def test_flip_mirrors_image_and_boxes():
    plain = EvalTransform(PREPROCESS)(example(), (0, 0))
    results = [train("flip")(example(), (0, index)) for index in range(40)]
    flipped = [not torch.equal(result.image, plain.image) for result in results]
    assert 10 < sum(flipped) < 30
    result = results[flipped.index(True)]
    torch.testing.assert_close(result.image, plain.image.flip(2), rtol=0, atol=0)
    mirrored = plain.boxes.copy()
    mirrored[:, [0, 2]] = SIZE - plain.boxes[:, [2, 0]]
    np.testing.assert_allclose(result.boxes, mirrored, atol=1e-4)


@pytest.mark.parametrize("resize", ["bilinear", "tensorflow"])
@pytest.mark.parametrize("preset", PRESETS)
def test_boxes_stay_on_their_objects(preset, resize):
    preprocess = Preprocess(PreprocessConfig(mean=(0.0,) * 3, std=(1.0,) * 3, resize=resize), SIZE)
    transform = train(preset, preprocess=preprocess, photometric=0.0)
    colours = np.array([CROWD, RED, BLUE])
    kept = np.zeros(3)
    for index in range(60):
        image, boxes, labels = transform(example(), (0, index))
        pixels = image.permute(1, 2, 0).numpy()
        np.add.at(kept, labels, 1)
        for box, label in zip(boxes, labels, strict=True):
            assert (box >= 0).all()
            assert (box <= SIZE).all()
            assert (box[2:] - box[:2] >= 1).all()
            x, y = ((box[:2] + box[2:]) / 2).astype(int)
            if (box[2:] - box[:2]).min() >= 4:
                assert np.abs(pixels[y, x] - colours[label]).max() < 40, (index, box, label)
            for column, row in [(box[0] - 3, y), (x, box[1] - 3), (box[2] + 3, y), (x, box[3] + 3)]:
                if 0 <= column < SIZE and 0 <= row < SIZE:
                    outside = pixels[int(row), int(column)]
                    assert np.abs(outside - colours[label]).max() > 60, (index, box, label)
    assert (kept > 25).all()


@pytest.mark.parametrize("preset", PRESETS)
def test_no_boxes_and_a_single_crowd(preset):
    transform = train(preset)
    image = example().image
    for index in range(10):
        none = Example(image, np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
        found = transform(none, (0, index))
        assert found.boxes.shape == (0, 4)
        assert found.labels.shape == (0,)
        whole = Example(image, np.array([[0, 0, 120, 90]], np.float32), np.array([0]))
        found = transform(whole, (0, index))
        assert found.labels.tolist() == [0]


def test_objects_go_with_their_centre_and_crowds_stay_while_in_view():
    counts = {1: 0, 0: 0}
    transform = train("ssdlite")
    for index in range(100):
        boxes = np.array([[80, 0, 120, 90], [80, 0, 120, 90], [0, 0, 60, 90]], np.float32)
        labels = transform(Example(example().image, boxes, np.array([1, 0, 2])), (0, index)).labels
        for label in counts:
            counts[label] += label in labels
    assert counts[0] > counts[1]


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (2, 2), (2000, 30)])
@pytest.mark.parametrize("preset", PRESETS)
def test_odd_images(preset, size):
    height, width = size
    boxes = np.array([[0, 0, width, height]], dtype=np.float32)
    image = Example(np.zeros((height, width, 3), np.uint8), boxes, np.array([1]))
    for index in range(5):
        found = train(preset)(image, (0, index))
        assert found.image.shape == (3, SIZE, SIZE)
        assert torch.isfinite(found.image).all()


@pytest.mark.parametrize("preset", PRESETS[1:])
def test_draws_depend_on_seed_epoch_and_index_alone(preset):
    def draw(transform, key):
        return transform(example(), key).image

    ours, other = train(preset, seed=1), train(preset, seed=2)
    keys = [(epoch, index) for epoch in range(4) for index in range(4)]
    first = [draw(ours, key) for key in keys]
    again = [draw(ours, key) for key in reversed(keys)][::-1]
    fresh = [draw(train(preset, seed=1), key) for key in keys]
    assert all(map(torch.equal, first, again))
    assert all(map(torch.equal, first, fresh))
    assert not all(map(torch.equal, first, [draw(other, key) for key in keys]))
    assert not all(map(torch.equal, first[:4], first[4:8]))
    assert len({image.numpy().tobytes() for image in first}) > 1


def test_draws_of_different_steps_are_independent():
    # with one seed for every transform, flip and colour would always come together
    transform = train("ssd", expand_max_scale=1.0, crop_min_scale=1.0, photometric=0.3)
    image = np.full((64, 64, 3), (60, 120, 180), dtype=np.uint8)
    image[:, :32] //= 2
    outcomes = set()
    for index in range(60):
        found = transform(
            Example(image, np.zeros((0, 4), np.float32), np.zeros(0, np.int64)), (0, index)
        ).image
        flipped = bool(found[..., 0].sum() > found[..., -1].sum())
        dark = found[:, 0, 40 if not flipped else 20]
        shuffled = not bool(dark[0] < dark[1] < dark[2])
        outcomes.add((flipped, shuffled))
    assert outcomes == {(a, b) for a in (False, True) for b in (False, True)}


def test_photometric_changes_colours_only():
    still = train("ssd", photometric=0.0)
    vivid = train("ssd", photometric=1.0)
    changed = 0
    for index in range(20):
        before, after = still(example(), (0, index)), vivid(example(), (0, index))
        np.testing.assert_array_equal(before.boxes, after.boxes)
        changed += not torch.equal(before.image, after.image)
    assert changed > 12


def extent(image, colour):
    """xyxy around the pixels [3, S, S] that are closer to a colour than to grey."""
    distance = (image - torch.tensor(colour, dtype=torch.float32)[:, None, None]).norm(dim=0)
    from_grey = (image - 128.0).norm(dim=0)
    rows, columns = torch.nonzero(distance < from_grey, as_tuple=True)
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def test_the_box_of_a_painted_rectangle_after_every_change():
    hypothesis = pytest.importorskip("hypothesis", reason="needs the extra igcv3det[test]")
    strategies = hypothesis.strategies
    preprocess = Preprocess(PreprocessConfig(mean=(128.0,) * 3, std=(1.0,) * 3), SIZE)
    transforms = {preset: train(preset, 0, preprocess, photometric=0.0) for preset in PRESETS}

    @hypothesis.settings(max_examples=100, deadline=None, database=None)
    @hypothesis.given(
        preset=strategies.sampled_from(PRESETS),
        sides=strategies.tuples(strategies.integers(20, 300), strategies.integers(20, 300)),
        shares=strategies.tuples(*[strategies.floats(0, 1)] * 4),
        key=strategies.tuples(strategies.integers(0, 99), strategies.integers(0, 999)),
    )
    def run(preset, sides, shares, key):
        height, width = sides
        left, top = int(shares[0] * (width - 10)), int(shares[1] * (height - 10))
        right = left + 10 + int(shares[2] * (width - left - 10))
        bottom = top + 10 + int(shares[3] * (height - top - 10))
        image = np.full((height, width, 3), 128, dtype=np.uint8)
        image[top:bottom, left:right] = RED
        box = np.array([[left, top, right, bottom]], dtype=np.float32)
        found = transforms[preset](Example(image, box, np.array([1])), key)
        if len(found.boxes):
            # half a pixel of the input for its grid, and half of one that is enlarged
            tolerance = 1.01 + 0.5 * SIZE / min(sides)
            painted = extent(found.image + 128.0, RED)
            np.testing.assert_allclose(found.boxes[0], painted, atol=tolerance)

    run()
