import pytest
import torch
from distillation_networks import built, detector_config, small_config
from torch.testing import assert_close

from igcv3det.config import BackboneConfig
from igcv3det.tasks.distill.losses import unexplained_variance
from igcv3det.tasks.distill.teacher import Teacher, TeacherNetwork

NAMES = ["part2", "part8", "tap", "logits", "offsets", "prefix"]


@pytest.fixture(scope="module")
def networks():
    teacher = built(detector_config(BackboneConfig(name="mobilenetv2", width=0.25)), 1)
    return teacher, built(small_config(), 2)


def expected(teacher, student, images):
    with torch.no_grad():
        tap, last = teacher.backbone.forward_features(images)
        outputs = teacher(images)
        x = student.backbone.stem(images)
        prefix = student.backbone.blocks[0](x)
        second = teacher.backbone.features[:4](images)
    return dict(zip(NAMES, [second, last, tap, *outputs, prefix], strict=True))


def test_it_computes_what_the_networks_compute(networks):
    images = torch.randn(2, 3, 64, 64)
    found = Teacher(TeacherNetwork(*networks, 2, NAMES, "torch"), "torch")(images)
    assert list(found) == NAMES
    for name, value in expected(*networks, images).items():
        assert_close(found[name], value, rtol=1e-3, atol=1e-4, msg=name)
        assert not found[name].requires_grad


def test_openvino_computes_it_too(networks):
    pytest.importorskip("openvino")
    images = torch.randn(2, 3, 64, 64)
    network = TeacherNetwork(*networks, 2, NAMES, "openvino")
    runner = Teacher(network, "openvino")
    with torch.autocast("cpu", torch.bfloat16):  # as a trainer calls it
        found = {name: value.clone() for name, value in runner(images).items()}
    for name, value in expected(*networks, images).items():
        assert found[name].shape == value.shape
        maps = (found[name], value)
        if value.ndim == 3:  # [B, A, columns] as channels
            maps = tuple(m.transpose(1, 2)[..., None] for m in maps)
        # bfloat16 keeps eight bits; nine parts add up to a few per cent of the variance at most
        assert unexplained_variance(*maps) < 0.03, name
    other = runner(torch.randn(3, 3, 64, 64))  # another shape is compiled anew
    assert len(other["logits"]) == 3


def test_the_networks_stay_as_they_are(networks):
    teacher, student = networks
    before = {k: v.clone() for k, v in student.state_dict().items()}
    runner = Teacher(TeacherNetwork(teacher, student, 2, ["prefix"], "torch"), "torch")
    student.backbone.stem[0].weight.data.add_(1)
    kept = runner(torch.ones(1, 3, 64, 64))["prefix"]
    student.load_state_dict(before)
    again = Teacher(TeacherNetwork(teacher, student, 2, ["prefix"], "torch"), "torch")
    assert_close(kept, again(torch.ones(1, 3, 64, 64))["prefix"])


def test_unused_parts_are_not_computed(networks):
    network = TeacherNetwork(*networks, 0, ["part1"], "torch")
    run = []
    for number, layer in enumerate(network.teacher.backbone.features):
        layer.register_forward_hook(lambda *_, number=number: run.append(number))
    Teacher(network, "torch")(torch.randn(1, 3, 64, 64))
    assert run == [0, 1]  # the stem and the one block of the first stage
