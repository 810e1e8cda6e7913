import cv2
import numpy as np
import pytest
import torch

from igcv3det.checkpoint import load_detector, save_detector
from igcv3det.config import BackboneConfig, DetectorConfig, HeadConfig
from igcv3det.detector import build_detector
from research import narrowed

CONFIG = DetectorConfig(
    num_classes=2,
    image_size=64,
    backbone=BackboneConfig(name="mobilenetv2", width=0.25),
    head=HeadConfig(extra_channels=(16,)),
)


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    save_detector(build_detector(CONFIG), tmp_path / "original.safetensors")
    generator = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for n in range(narrowed.STARTED_ON + narrowed.HELD_OUT + 1):
        small = generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        cv2.imwrite(str(tmp_path / "images" / f"{n}.png"), cv2.resize(small, (64, 64)))
    return tmp_path


def _call(folder, *options):
    paths = {"--images": "images", "--cache": "cache", "--output": "narrow.safetensors"}
    own = [word for key, name in paths.items() for word in (key, str(folder / name))]
    return narrowed.main([str(folder / "original.safetensors"), *own, *options])


def test_narrower_blocks_and_all_other_weights(folder, capsys):
    assert _call(folder, "--hidden", "1=4", "6=16", "--train-until", "2", "--steps", "60") == 0
    found = load_detector(folder / "narrow.safetensors")
    original = load_detector(folder / "original.safetensors")
    hidden = [block.hidden for block in found.config.backbone.blocks]
    widths = [conv[0].out_channels for conv in (b.depthwise for b in found.backbone.blocks)]
    assert (hidden[1], hidden[6]) == (4, 16)
    assert widths[1] == 4
    for name, value in original.head.state_dict().items():
        assert torch.equal(found.head.state_dict()[name], value)
    line = capsys.readouterr().out.splitlines()[-1]
    start, trained = (float(word.strip(",")) for word in line.split() if word[0] == "0")
    assert trained < start < 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--hidden", "1:8"], "--hidden takes BLOCK=CHANNELS, such as 1=48, not '1:8'"),
        (["--hidden", "99=8"], "--hidden 99: blocks are numbered 1 to 16"),
        (["--hidden", "2=10000"], "--hidden 2=10000: the block has "),
        (["--hidden", "2=8", "--train-until", "17"], "--train-until 17: no such block"),
    ],
)
def test_blocks_that_cannot_be_narrowed_are_refused(folder, capsys, words, message):
    assert _call(folder, *words) == 1
    assert message in capsys.readouterr().err
