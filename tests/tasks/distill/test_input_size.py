"""A student with another input size than its teacher's."""

import dataclasses

import pytest
import torch
from distillation_networks import built, detector_config, small_config
from distillation_runs import WHOLE_STUDENT, data, write_inputs
from distributed_runs import make_trainer
from torch.nn import functional as F
from torch.testing import assert_close

from igcv3det.checkpoint import load_detector
from igcv3det.config import BackboneConfig, OptimConfig
from igcv3det.detection.anchors import anchors_per_cell
from igcv3det.detection.box_coder import BoxCoder
from igcv3det.models.layers import same_padding
from igcv3det.structures import HeadOutputs
from igcv3det.tasks.distill.input_size import (
    adapt_offsets,
    cell_shift,
    merge_outputs,
    resized,
    teacher_at_size,
)
from igcv3det.tasks.distill.module import DistillationModule
from igcv3det.tasks.distill.teacher import Teacher, TeacherNetwork


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
def test_the_shift_is_that_of_the_pixels_that_convolutions_read(side, halvings, padding):
    positions = read_positions(side, halvings, padding)
    cells = len(positions)
    centres = (torch.arange(cells, dtype=torch.float64) + 0.5) * side / cells
    expected = (positions - centres).mean()
    assert_close(cell_shift(side, cells, padding), float(expected))


def test_a_number_of_cells_that_halving_does_not_make():
    with pytest.raises(ValueError, match="halving 300 pixels does not make 20 cells"):
        cell_shift(300, 20, "same")


@pytest.mark.parametrize("padding", ["same", "symmetric"])
def test_adapted_boxes_keep_their_pixels_around_what_a_cell_sees(padding):
    config = dataclasses.replace(detector_config(BackboneConfig(width=0.25), 96), padding=padding)
    trained = built(config, 3)
    other = built(dataclasses.replace(config, image_size=72), 3)

    def boxes_around_cells(detector):
        """Mean centre around the pixel read, and mean extent, of each map's anchors of a cell."""
        size, coder = detector.config.image_size, BoxCoder(config.variances)
        maps, found, start = detector.feature_sizes, [], 0
        counts = anchors_per_cell(config.anchors, len(maps))
        for level, (cells, _) in enumerate(maps):
            # constant outputs: the biases alone
            offsets = detector.head.regression[level][-1].bias.detach().reshape(-1, 4)
            end = start + counts[level] * cells**2
            anchors = detector.anchors[start:end].reshape(cells, cells, -1, 4)
            boxes = coder.decode(offsets.expand_as(anchors), anchors)
            positions = read_positions(size, 4 + level, padding).float()
            centres = (boxes[..., :2] + boxes[..., 2:]) / 2
            around = centres - torch.stack(
                [positions.expand(cells, cells), positions[:, None].expand(cells, cells)], -1
            ).unsqueeze(2)
            extents = boxes[..., 2:] - boxes[..., :2]
            found.append(torch.cat([around.mean((0, 1)), extents.mean((0, 1))], -1))
            start = end
        return found

    for layer in (*trained.head.regression, *other.head.regression):
        torch.nn.init.normal_(layer[-1].bias, generator=torch.Generator().manual_seed(1))
    adapt_offsets(other, 96)
    for before, after in zip(boxes_around_cells(trained), boxes_around_cells(other), strict=True):
        assert_close(after, before, rtol=1e-4, atol=1e-3)


def test_adapting_scales_what_the_centres_depend_on():
    config = small_config()
    detector = built(config, 1)
    before = detector.head.regression[0][-1].weight.detach().clone().unflatten(0, (-1, 4))
    adapt_offsets(detector, 96)  # 64 now: a pixel is 1.5 times the share that it was
    after = detector.head.regression[0][-1].weight.detach().unflatten(0, (-1, 4))
    assert_close(after[:, :2], 1.5 * before[:, :2])
    assert_close(after[:, 2:], before[:, 2:])


def test_maps_of_as_many_cells_take_the_teachers_outputs():
    counts, own, teacher = [1, 2], [(2, 2), (1, 1)], [(3, 3), (1, 1)]
    first = HeadOutputs(torch.zeros(1, 6, 4), torch.zeros(1, 6, 4))
    second = HeadOutputs(torch.ones(1, 11, 4), 2 * torch.ones(1, 11, 4))
    merged = merge_outputs(first, second, counts, [own, teacher])
    assert merged.logits[0, :, 0].tolist() == [0, 0, 0, 0, 1, 1]
    assert merged.offsets[0, :, 0].tolist() == [0, 0, 0, 0, 2, 2]


def test_equal_sizes_change_nothing():
    images = torch.randn(1, 3, 64, 64)
    assert resized(images, 64, 64) is images
    assert resized(images, 48, 64).shape == (1, 3, 48, 48)


@pytest.mark.parametrize("runtime", ["torch", pytest.param("openvino", marks=pytest.mark.slow)])
def test_the_teacher_runs_at_both_sizes(runtime):
    if runtime == "openvino":
        pytest.importorskip("openvino")
    teacher = built(detector_config(BackboneConfig(name="mobilenetv2", width=0.25), 72), 1)
    student = built(small_config(), 2)  # 64 pixels: 4, 2, 1, 1 cells; at 72 they are 5, 3, 2, 1
    names = ["part1", "part8", "tap", "logits", "offsets", "prefix"]
    images = torch.randn(2, 3, 72, 72)
    found = Teacher(TeacherNetwork(teacher, student, 2, names, runtime), runtime)(images)
    small = F.interpolate(images, size=(64, 64), mode="bilinear", align_corners=False)
    at_64 = teacher_at_size(teacher, 64).eval()
    with torch.no_grad():
        tap, last = at_64.backbone.forward_features(small)
        own, full = at_64(small), teacher(images)
        prefix = student.backbone.blocks[0](student.backbone.stem(small))
        first = at_64.backbone.features[:2](small)
    per_cell = anchors_per_cell(teacher.config.anchors, 4)[-1]
    last_map = slice(-per_cell, None)  # the only one of as many cells
    logits = torch.cat([own.logits[:, :-per_cell], full.logits[:, last_map]], 1)
    offsets = torch.cat([own.offsets[:, :-per_cell], full.offsets[:, last_map]], 1)
    expected = [first, last, tap, logits, offsets, prefix]
    for name, value in zip(names, expected, strict=True):
        assert found[name].shape == value.shape
        if runtime == "torch":
            assert_close(found[name], value, rtol=1e-3, atol=1e-4, msg=name)
        else:
            assert (found[name] - value).square().mean() < 0.03 * value.var(), name


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sizes")
    write_inputs(folder, images=6)
    return folder


def module(folder, config, size):
    detector = dataclasses.replace(small_config(), image_size=size)
    optim = OptimConfig(lr=1e-6, lr_batch_size=None, warmup_steps=0)
    teacher = str(folder / "teacher.safetensors")
    return DistillationModule(teacher, detector, config, optim=optim, weights=teacher)


def test_a_training_at_a_smaller_size(folder):
    student = module(folder, WHOLE_STUDENT, 48)
    unadapted = load_detector(folder / "teacher.safetensors").head.regression[0][-1].weight
    adapted = student.detector.head.regression[0][-1].weight
    assert_close(adapted[:2], unadapted[:2] * 64 / 48)
    trainer = make_trainer(folder, 1, max_steps=1, limit_val_batches=1)
    trainer.fit(student, datamodule=data(folder, 2))
    # the student is the teacher: at its own size, its features are the same
    metrics = trainer.callback_metrics
    assert max(float(metrics[f"train/{name}"]) for name in ("stage2", "stage7", "tap0")) < 1e-6


def test_a_loss_on_boxes_needs_the_teachers_size(folder):
    trainer = make_trainer(folder, 1, max_steps=1, limit_val_batches=0)
    config = dataclasses.replace(WHOLE_STUDENT, box_weight=1.0)
    with pytest.raises(ValueError, match="must have the teacher's input size, 64, it has 48"):
        trainer.fit(module(folder, config, 48), datamodule=data(folder, 2))
