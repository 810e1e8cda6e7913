import cv2
import numpy as np
import pytest
import torch

from igcv3det.checkpoint import load_detector, save_detector
from igcv3det.config import BackboneConfig, DetectorConfig, HeadConfig
from igcv3det.detector import build_detector
from igcv3det.tasks.compress.design import explicit_detector
from igcv3det.tasks.compress.detector_teacher import DetectorTeacher
from research import first_stages
from research.first_stages import FirstStages


def _config(name):
    backbone = BackboneConfig(name=name, width=0.25)
    head = HeadConfig(extra_channels=(16,))
    return DetectorConfig(num_classes=2, image_size=64, backbone=backbone, head=head)


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    for file, name in (
        ("igcv3", "igcv3"),
        ("mobilenetv2", "mobilenetv2"),
        ("other", "mobilenetv2"),
    ):
        save_detector(build_detector(_config(name)), tmp_path / f"{file}.safetensors")
    generator = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for n in range(first_stages.HELD_OUT + 8):
        small = generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        cv2.imwrite(str(tmp_path / "images" / f"{n}.png"), cv2.resize(small, (64, 64)))
    return tmp_path


def _call(folder, *options, student="igcv3"):
    paths = {"--images": "images", "--cache": "cache", "--output": "first.safetensors"}
    own = [word for key, name in paths.items() for word in (key, str(folder / name))]
    teacher = str(folder / "mobilenetv2.safetensors")
    own_file = str(folder / f"{student}.safetensors")
    return first_stages.main([own_file, "--teacher", teacher, *own, *options])


@pytest.mark.parametrize(
    ("student", "options"), [("igcv3", []), ("other", ["--no-map"])], ids=["mapped", "by channel"]
)
def test_only_the_first_stages_change_and_less_is_unexplained(folder, capsys, student, options):
    words = ["--stage", "2", "--steps", "40", "--sharpen", "1", *options]
    assert _call(folder, *words, student=student) == 0
    found = load_detector(folder / "first.safetensors").state_dict()
    start = load_detector(folder / f"{student}.safetensors")
    if student == "other":
        start = explicit_detector(start)
    count = start.backbone.stage_starts[2]
    trained = ("backbone.stem.", *(f"backbone.blocks.{n}." for n in range(count)))
    for name, value in start.state_dict().items():
        if not name.startswith(trained) or "running" in name:
            assert torch.equal(found[name], value), name
    assert not torch.equal(found["backbone.stem.0.weight"], start.backbone.stem[0].weight)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    before, after = ((float(line[2]), float(line[6])) for line in (lines[0], lines[-1]))
    assert after[0] < before[0]
    assert after[1] < before[1]


def test_the_teacher_in_another_basis_leaves_nothing(folder):
    """The linear map undoes a scale and a shift of the channels, on other images too."""
    teacher = DetectorTeacher.load(str(folder / "mobilenetv2.safetensors"))
    student = explicit_detector(load_detector(folder / "mobilenetv2.safetensors"))
    last = student.backbone.stage_starts[2] - 1
    norm = student.backbone.blocks[last].project[1]
    with torch.no_grad():
        norm.weight.mul_(torch.linspace(0.5, 2, len(norm.weight)))
        norm.bias.add_(1)
    channels = len(norm.weight)
    images = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    stages = FirstStages(student, teacher, 2, torch.eye(channels), images, images)
    unmapped = FirstStages(student, teacher, 2, torch.eye(channels), None, images)
    assert min(unmapped.unexplained(images)) > 0.5
    for shown in (images, images.flip(1) + 1):
        assert max(stages.unexplained(shown)) < 0.02  # of the ridge
    with torch.no_grad():
        student.backbone.stem[0].weight.zero_()
    assert min(stages.unexplained(images)) > 0.5


def test_other_channels_need_a_map(folder, capsys):
    assert _call(folder, "--stage", "2", "--no-map") == 1
    assert "the student has 6 channels after stage 2, the teacher 8" in capsys.readouterr().err


def test_too_few_images_are_refused(folder, capsys):
    for image in list((folder / "images").iterdir())[8:]:
        image.unlink()
    assert _call(folder) == 1
    assert "8 images; 25 are needed" in capsys.readouterr().err
