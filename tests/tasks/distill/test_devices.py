"""Distillation on a GPU, a fake one by default: its figures are those of the CPU."""

import dataclasses

import distillation_runs
import pytest
import torch
from distillation_networks import built, small_config
from distillation_runs import MAPPED, WHOLE_STUDENT
from fake_cuda import GPUS, fake_cuda, gpu

from igcv3det.config import LossConfig
from igcv3det.detection.losses import MultiBoxLoss
from igcv3det.structures import Target
from igcv3det.tasks.distill.channel_map import build_channel_maps
from igcv3det.tasks.distill.config import CropConfig, DistillationConfig
from igcv3det.tasks.distill.crops import random_crops
from igcv3det.tasks.distill.student import DistillationObjective
from igcv3det.tasks.distill.teacher import Teacher, TeacherNetwork, teacher_tail

ALL_BUT_STAGE_4 = ("stem", *(f"stage{n}" for n in (1, 2, 3, 5, 6, 7)), "last", "extras", "head")
PREFIX = ("stem", "stage1", "stage2")
CONFIGS = {
    "forced": (DistillationConfig(teacher_forcing_steps=1), True),
    "prefix-and-map": (DistillationConfig(frozen=PREFIX, mapped_stages=(4,)), False),
    "teacher-tail": (DistillationConfig(frozen=ALL_BUT_STAGE_4, teacher_tail=True), False),
}


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
@pytest.mark.parametrize("kind", GPUS)
def test_a_step_on_a_gpu(config, forced, kind):
    with gpu(kind), torch.device("cuda"):
        loss, student = _loss(config, "cuda", forced=forced)
        loss.backward()
        gradients = [p.grad for p in student.parameters() if p.grad is not None]
        assert loss.device.type == "cuda"
        assert torch.isfinite(loss)
        assert any(gradient.abs().max() > 0 for gradient in gradients)


@pytest.mark.parametrize("name", ["whole student", "frozen prefix and mapped stage"])
@pytest.mark.parametrize("kind", GPUS)
def test_a_training_on_a_gpu_is_that_of_the_cpu(tmp_path, name, kind):
    # a start that takes the teacher's statistics; a teacher of OpenVINO, which torch runs on a GPU
    config = MAPPED if "mapped" in name else dataclasses.replace(WHOLE_STUDENT, start="shared")
    runtime = "torch" if "mapped" in name else "openvino"
    distillation_runs.write_inputs(tmp_path, images=9)
    expected = distillation_runs.fit(tmp_path, config)
    with gpu(kind) as options:
        found = distillation_runs.fit(
            tmp_path, config, teacher_runtime=runtime, on_device=True, **options
        )
    tolerance = 1e-2 if kind == "fake" else 0.05
    assert found == pytest.approx(expected, rel=tolerance)


@pytest.mark.parametrize("size", [64, 72])
@pytest.mark.parametrize("kind", GPUS)
def test_a_teacher_with_other_anchors_on_a_gpu(size, kind):
    teacher = built(dataclasses.replace(small_config(), image_size=size), 1)
    anchors = dataclasses.replace(small_config().anchors, trained_size=80)
    student = built(dataclasses.replace(small_config(), anchors=anchors), 2)
    images = torch.rand(2, 3, 64, 64)
    network = TeacherNetwork(teacher, student, 0, ("offsets",), "torch")
    expected = Teacher(network, "torch")(images)["offsets"]
    with gpu(kind):
        network = TeacherNetwork(teacher, student.to("cuda"), 0, ("offsets",), "torch")
        found = Teacher(network, "torch")(images.to("cuda"))["offsets"]
    assert found.device.type == "cuda"
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-3, atol=1e-3)


def _crops(device):
    pixels = torch.zeros(4, 96, 96, 3, dtype=torch.uint8, device=device)
    images, regions = random_crops(pixels, CropConfig(size=64), (0,))
    assert (images.device.type, regions.device.type) == (device, "cpu")
    assert images.shape == (4, 3, 64, 64)


@pytest.mark.parametrize("kind", GPUS)
def test_crops_on_a_gpu(kind):
    with gpu(kind):
        _crops("cuda")


@pytest.mark.parametrize("kind", GPUS)
def test_boxes_with_scores_on_a_gpu(kind):
    with gpu(kind), torch.device("cuda"):
        _, student = _networks()
        outputs = student(torch.rand(1, 3, 64, 64))
        boxes, crowds = torch.tensor([[8.0, 8.0, 40.0, 40.0]]), torch.zeros(0, 4)
        target = Target(boxes, torch.tensor([1]), crowds, 1, (64, 64), torch.tensor([0.7]))
        criterion = MultiBoxLoss(LossConfig(), "sigmoid", student.config.variances)
        losses = criterion(outputs, student.anchors, [target])
        sum(losses.values()).backward()
        assert all(torch.isfinite(loss) for loss in losses.values())


def test_openvino_refuses_images_on_a_gpu():
    pytest.importorskip("openvino")
    runner = Teacher(TeacherNetwork(*_networks(), 0, ["logits"], "openvino"), "openvino")
    with fake_cuda(), pytest.raises(ValueError, match="images are on cuda"):
        runner(torch.zeros(1, 3, 64, 64, device="cuda"))
