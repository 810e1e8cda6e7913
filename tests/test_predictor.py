"""The predictor: every kind of image, networks of other runtimes, threads, and bad input."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from coco_files import THREE, save_tiny_detector, write_noise
from fake_cuda import GPUS, gpu
from PIL import Image
from torch.testing import assert_close

from igcv3det.config import DetectorConfig, PreprocessConfig
from igcv3det.io.images import ImageReadError, read_image
from igcv3det.predictor import Predictor, as_array
from igcv3det.structures import HeadOutputs


class OneBox:
    """A network that is no module and detects a dog at its second anchor in every image."""

    config = DetectorConfig(
        num_classes=3,
        image_size=100,
        preprocess=PreprocessConfig(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)),
    )
    categories = THREE
    anchors = torch.tensor([[0.0, 0, 10, 10], [20, 20, 60, 80]])

    def __call__(self, images):
        self.images = images
        logits = torch.tensor([[20.0, 0, 0, 0], [0, 0, 2, 0]])
        return HeadOutputs(logits.expand(len(images), -1, -1), torch.zeros(len(images), 2, 4))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    path = save_tiny_detector(tmp_path_factory.mktemp("weights") / "tiny.safetensors")
    return Predictor.load(path, score_threshold=0.0)


@pytest.fixture
def image(tmp_path):
    return write_noise(tmp_path / "noise.png", 60, 90)


def same(first, second):
    assert len(first)
    for one, other in zip(
        (first.boxes, first.scores, first.labels),
        (second.boxes, second.scores, second.labels),
        strict=True,
    ):
        assert_close(one, other)


def test_a_network_of_another_runtime():
    network = OneBox()
    found = Predictor(network, score_threshold=0.5)(np.full((50, 200, 3), 7, dtype=np.uint8))
    assert_close(found.boxes, torch.tensor([[40.0, 10, 120, 40]]))  # 100 x 100 to 200 wide, 50 high
    assert_close(found.scores, torch.tensor([2.0, 0, 0, 0]).softmax(0)[:1])
    assert (found.names, found.category_ids) == (["dog"], [3])
    assert_close(network.images, torch.full((1, 3, 100, 100), 7.0))


def test_thresholds_given_replace_the_detectors_own():
    image = np.zeros((9, 9, 3), dtype=np.uint8)
    assert len(Predictor(OneBox(), score_threshold=0.9)(image)) == 0
    assert len(Predictor(OneBox())(image)) == 3  # three classes score above 0.01 on one anchor
    assert len(Predictor(OneBox(), detections_per_image=2)(image)) == 2
    with pytest.raises(ValueError, match="score_threshold must be in"):
        Predictor(OneBox(), score_threshold=1.5)
    with pytest.raises(ValueError, match="detections_per_image must be >= 1, got 0"):
        Predictor(OneBox(), detections_per_image=0)


def test_path_pil_and_array_agree(tiny, image):
    found = tiny(image)
    same(found, tiny(str(image)))
    same(found, tiny(Image.open(image)))
    same(found, tiny(read_image(image)))
    assert found.categories == THREE
    assert found.boxes[:, 2].max() <= 90
    assert found.boxes[:, 3].max() <= 60


def test_a_batch_equals_its_images_one_by_one(tiny, image, tmp_path):
    other = write_noise(tmp_path / "other.png", 33, 20, seed=1)
    for alone, together in zip(
        map(tiny, (image, other)), tiny.predict_batch([image, other]), strict=True
    ):
        assert_close(alone.scores, together.scores)
    assert tiny.predict_batch([]) == []


def test_threads_share_a_predictor(tiny, tmp_path):
    images = [write_noise(tmp_path / f"{n}.png", 40 + n, 60, seed=n) for n in range(8)]
    expected = [tiny(image) for image in images]
    with ThreadPoolExecutor(4) as pool:
        for one, other in zip(pool.map(tiny, images * 3), expected * 3, strict=True):
            same(one, other)


@pytest.mark.parametrize("resize", ["bilinear", "tensorflow"])
def test_arrays_of_any_strides_and_read_only_ones(resize):
    network = OneBox()
    network.config = dataclasses.replace(network.config, preprocess=PreprocessConfig(resize=resize))
    predictor, inputs = Predictor(network), []
    bgr = np.random.default_rng(0).integers(0, 256, (50, 80, 3), dtype=np.uint8)
    read_only = np.ascontiguousarray(bgr[:, :, ::-1])
    read_only.flags.writeable = False
    for rgb in (bgr[:, :, ::-1], read_only):
        predictor(rgb)
        inputs.append(network.images)
    assert_close(*inputs, rtol=0, atol=0)


def test_the_exif_orientation_is_applied(tiny, tmp_path):
    upright = read_image(write_noise(tmp_path / "a.png", 60, 90))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be rotated by 90 degrees clockwise for viewing
    stored = Image.fromarray(np.rot90(upright).copy())
    path = tmp_path / "turned.png"
    stored.save(path, exif=exif)
    found = tiny(upright)
    same(found, tiny(path))
    same(found, tiny(Image.open(path)))


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1", "LA", "La", "YCbCr", "I;16"])
def test_pil_modes(mode):
    image = Image.new("L", (6, 4), 200)
    if mode == "I;16":
        image = Image.fromarray(np.full((4, 6), 200 * 256, np.uint16))
    elif mode == "La":  # there is no conversion from L
        image = image.convert("LA").convert("La")
    else:
        image = image.convert(mode)
    array = as_array(image)
    assert (array.shape, array.dtype) == ((4, 6, 3), np.uint8)
    if mode != "1":
        assert (array == 200).all()


@pytest.mark.parametrize(("mode", "dtype"), [("F", np.float32), ("I", np.int32)])
def test_pil_modes_of_unknown_range_are_refused(mode, dtype):
    image = Image.fromarray(np.full((4, 6), 0.5, np.float32).astype(dtype))
    with pytest.raises(ValueError, match=f"mode {mode} has no fixed range"):
        as_array(image)


def test_a_truncated_file_opened_by_pil_is_refused(image):
    image.write_bytes(image.read_bytes()[:-200])
    with Image.open(image) as opened, pytest.raises(ImageReadError, match=r"noise\.png: .*trunc"):
        as_array(opened)


def test_results_can_be_used_with_autograd(tiny, image):
    boxes = tiny(image).boxes
    weight = torch.ones(4, requires_grad=True)
    (boxes * weight).sum().backward()  # tensors of inference mode would refuse
    assert weight.grad is not None


@pytest.mark.parametrize(
    ("image", "error", "complaint"),
    [
        (
            np.zeros((4, 4, 3), np.float32),
            ValueError,
            r"uint8 RGB \[H, W, 3\].* got float32 \[4, 4, 3\]",
        ),
        (np.zeros((4, 4), np.uint8), ValueError, r"got uint8 \[4, 4\]"),
        (np.zeros((3, 4, 4), np.uint8), ValueError, r"got uint8 \[3, 4, 4\]"),
        (np.zeros((0, 4, 3), np.uint8), ValueError, r"got uint8 \[0, 4, 3\]"),
        (torch.zeros(4, 4, 3), TypeError, "got Tensor"),
        ("none.jpg", ImageReadError, "none.jpg"),
    ],
)
def test_other_inputs_are_refused(tiny, image, error, complaint):
    with pytest.raises(error, match=complaint):
        tiny(image)


def test_loading():
    with pytest.raises(FileNotFoundError, match=r"none\.ckpt"):
        Predictor.load("none.ckpt")


def test_devices_that_do_not_exist():
    with pytest.raises(ValueError, match="no such device: 'gpuu'"):
        Predictor(OneBox(), "gpuu")
    with pytest.raises(ValueError, match="this machine has"):
        Predictor(OneBox(), "cuda:99")
    if not torch.backends.mps.is_available():
        with pytest.raises(ValueError, match="device 'mps': not on this machine"):
            Predictor(OneBox(), "mps")


@pytest.mark.parametrize("kind", GPUS)
def test_the_gpu_finds_what_the_cpu_finds(tmp_path, image, kind, monkeypatch):
    path = save_tiny_detector(tmp_path / "tiny.safetensors")
    whole = read_image(image)
    images = [whole, whole[:, :90]]
    cpu = Predictor.load(path, score_threshold=0.0)(images)
    if kind == "fake":
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with gpu(kind):
        found = Predictor.load(path, "cuda", score_threshold=0.0)(images)
    for ours, theirs in zip(found, cpu, strict=True):
        assert {t.device.type for t in (ours.boxes, ours.scores, ours.labels)} == {"cpu"}
        assert_close(ours.scores, theirs.scores, rtol=1e-3, atol=1e-4)


def test_the_network_is_put_in_evaluation_mode():
    module = torch.nn.Module()
    for name in ("config", "categories", "anchors"):
        setattr(module, name, getattr(OneBox, name))
    assert not Predictor(module.train()).network.training
