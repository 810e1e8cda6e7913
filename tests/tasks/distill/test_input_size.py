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
from igcv3det.config import AnchorConfig, BackboneConfig, OptimConfig
from igcv3det.detection.anchors import anchors_per_cell, generate_anchors
from igcv3det.detection.box_coder import BoxCoder
from igcv3det.models.layers import same_padding
from igcv3det.structures import HeadOutputs
from igcv3det.tasks.distill.input_size import (
    adapt_offsets,
    cell_shift,
    resample_map,
    resample_outputs,
    resized,
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


def test_offsets_between_cells_decode_to_the_same_box():
    config, maps, own = AnchorConfig(), [(19, 19), (10, 10), (5, 5)], [(17, 17), (9, 9), (5, 5)]
    counts = anchors_per_cell(config, 3)
    coder = BoxCoder((0.1, 0.1, 0.2, 0.2))
    anchors, others = generate_anchors(config, 300, maps), generate_anchors(config, 300, own)
    width, height = (anchors[:, 2:] - anchors[:, :2]).unbind(-1)
    # one centre for all, and each anchor's extent: offsets of one shape differ by the cell alone
    half = torch.stack([width, height], -1) / 2
    centre = torch.tensor([141.0, 87.0])
    offsets = coder.encode(torch.cat([centre - half, centre + half], -1), anchors)
    rising = anchors.mean(-1, keepdim=True)  # a linear function of the cell
    found = resample_outputs(HeadOutputs(rising[None], offsets[None]), counts, maps, own)
    boxes = coder.decode(found.offsets[0], others)
    # at the outermost cells interpolation has a neighbour on one side only
    middle = others.reshape(-1, 2, 2).mean(1)
    inner = ((middle > 30) & (middle < 270)).all(-1)
    assert inner.sum() > 900
    assert_close(
        (boxes[inner, :2] + boxes[inner, 2:]) / 2,
        centre.expand(int(inner.sum()), 2),
        rtol=1e-4,
        atol=1e-2,
    )
    assert_close(found.logits[0, inner, 0], others[inner].mean(-1), rtol=1e-4, atol=1e-2)
    end = sum(c * h * w for c, (h, w) in zip(counts[:2], own[:2], strict=True))
    assert torch.equal(found.offsets[0, end:], offsets[-counts[2] * 25 :])  # the same cells


def test_equal_sizes_change_nothing():
    images = torch.randn(1, 3, 64, 64)
    assert resized(images, 64, 64) is images
    assert resized(images, 48, 64).shape == (1, 3, 48, 48)
    assert resample_map(images, 64, 64) is images


@pytest.mark.parametrize("runtime", ["torch", pytest.param("openvino", marks=pytest.mark.slow)])
def test_the_teachers_outputs_come_at_the_students_cells(runtime):
    if runtime == "openvino":
        pytest.importorskip("openvino")
    teacher = built(detector_config(BackboneConfig(name="mobilenetv2", width=0.25), 96), 1)
    student = built(small_config(), 2)  # 64 pixels
    names = ["part1", "part5", "part8", "tap", "logits", "offsets", "prefix"]
    images = torch.randn(2, 3, 96, 96)
    found = Teacher(TeacherNetwork(teacher, student, 2, names, runtime), runtime)(images)
    with torch.no_grad():
        own = student(images[..., :64, :64])
        small = F.interpolate(images, size=(64, 64), mode="bilinear", align_corners=False)
        prefix = student.backbone.blocks[0](student.backbone.stem(small))
    assert [tuple(found[name].shape[-2:]) for name in names[:4]] == [
        (32, 32),
        (4, 4),
        (2, 2),
        (4, 4),
    ]
    assert found["logits"].shape == own.logits.shape
    assert found["offsets"].shape == own.offsets.shape
    if runtime == "torch":
        assert_close(found["prefix"], prefix, rtol=1e-3, atol=1e-4)


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
    assert 0 < float(trainer.callback_metrics["train/score"]) < 1e4


def test_a_loss_on_boxes_needs_the_teachers_size(folder):
    trainer = make_trainer(folder, 1, max_steps=1, limit_val_batches=0)
    config = dataclasses.replace(WHOLE_STUDENT, box_weight=1.0)
    with pytest.raises(ValueError, match="must have the teacher's input size, 64, it has 48"):
        trainer.fit(module(folder, config, 48), datamodule=data(folder, 2))
