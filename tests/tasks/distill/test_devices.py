"""Distillation on a GPU: on fake CUDA tensors by default, and on a real one."""

import contextlib
from unittest import mock

import pytest
import torch
from distillation_networks import built, small_config
from fake_cuda import fake_cuda
from torch import nn

from igcv3det.config import LossConfig
from igcv3det.detection.losses import MultiBoxLoss
from igcv3det.structures import Target
from igcv3det.tasks.distill.channel_map import build_channel_maps
from igcv3det.tasks.distill.config import CropConfig, DistillationConfig
from igcv3det.tasks.distill.crops import random_crops
from igcv3det.tasks.distill.start import take_statistics
from igcv3det.tasks.distill.student import STAGES, DistillationObjective
from igcv3det.tasks.distill.teacher import Teacher, TeacherNetwork, part_name, teacher_tail

ALL_BUT_STAGE_4 = ("stem", *(f"stage{n}" for n in (1, 2, 3, 5, 6, 7)), "last", "extras", "head")
PREFIX = ("stem", "stage1", "stage2")
CONFIGS = {
    "forced": (DistillationConfig(teacher_forcing_steps=1), True),
    "prefix-and-map": (DistillationConfig(frozen=PREFIX, mapped_stages=(4,)), False),
    "teacher-tail": (DistillationConfig(frozen=ALL_BUT_STAGE_4, teacher_tail=True), False),
}


@contextlib.contextmanager
def _on_fake_cuda():
    """Everything is built on the GPU; `nn.Module.to` does not work on fake tensors."""
    same = mock.patch.object(nn.Module, "to", lambda module, *_, **__: module)
    with fake_cuda(), torch.device("cuda"), same:
        yield


def _networks():
    return built(small_config(), 1), built(small_config(), 2)


def _loss(config, device, *, forced=False):
    """The loss of one step, and the student."""
    teacher, student = _networks()
    maps = build_channel_maps(student, teacher, config.mapped_stages)
    tail = teacher_tail(teacher, "folded") if config.teacher_tail else None
    objective = DistillationObjective(config, maps, tail)
    names = objective.names(forced=forced)
    runner = Teacher(TeacherNetwork(teacher, student, objective.prefix, names, "torch"), "torch")
    images = torch.rand(2, 3, 64, 64, device=device)
    terms, outputs = objective.losses(student.train(), images, runner(images), forced=forced)
    assert (outputs is None) == forced
    return objective.total(terms), student


@pytest.mark.parametrize(("config", "forced"), CONFIGS.values(), ids=CONFIGS)
def test_a_step_mixes_no_devices(config, forced):
    with _on_fake_cuda():
        loss, _ = _loss(config, "cuda", forced=forced)
        assert loss.device.type == "cuda"
        assert loss.requires_grad


@pytest.mark.gpu
@pytest.mark.parametrize(("config", "forced"), CONFIGS.values(), ids=CONFIGS)
def test_a_step_on_a_gpu(config, forced):
    with torch.device("cuda"):
        loss, student = _loss(config, "cuda", forced=forced)
        loss.backward()
    gradients = [p.grad for p in student.parameters() if p.grad is not None]
    assert torch.isfinite(loss)
    assert any(gradient.abs().max() > 0 for gradient in gradients)


def _crops(device):
    pixels = torch.zeros(4, 96, 96, 3, dtype=torch.uint8, device=device)
    images, regions = random_crops(pixels, CropConfig(size=64), (0,))
    assert (images.device.type, regions.device.type) == (device, "cpu")
    assert images.shape == (4, 3, 64, 64)


def test_crops_are_cut_where_the_images_are():
    with fake_cuda():
        _crops("cuda")


@pytest.mark.gpu
def test_crops_on_a_gpu():
    _crops("cuda")


def test_statistics_are_taken_where_the_features_are():
    with _on_fake_cuda():
        teacher, student = _networks()
        names = [part_name(stage) for stage in STAGES]
        runner = Teacher(TeacherNetwork(teacher, student, 0, names, "torch"), "torch")
        found = runner(torch.rand(2, 3, 64, 64))
        take_statistics(student, [{stage: found[part_name(stage)] for stage in STAGES}])


@pytest.mark.gpu
def test_boxes_with_scores_on_a_gpu():
    with torch.device("cuda"):
        _, student = _networks()
        outputs = student(torch.rand(1, 3, 64, 64))
        boxes, crowds = torch.tensor([[8.0, 8.0, 40.0, 40.0]]), torch.zeros(0, 4)
        target = Target(boxes, torch.tensor([1]), crowds, 1, (64, 64), torch.tensor([0.7]))
        criterion = MultiBoxLoss(LossConfig(), "sigmoid", student.config.variances)
        losses = criterion(outputs, student.anchors, [target])
    assert all(torch.isfinite(loss) for loss in losses.values())


def test_openvino_refuses_images_on_a_gpu():
    pytest.importorskip("openvino")
    runner = Teacher(TeacherNetwork(*_networks(), 0, ["logits"], "openvino"), "openvino")
    with fake_cuda(), pytest.raises(ValueError, match="images are on cuda"):
        runner(torch.zeros(1, 3, 64, 64, device="cuda"))
