"""A student with another input size than its teacher's."""

import dataclasses

import pytest
import torch
from distillation_networks import built, detector_config, small_config
from distillation_runs import WHOLE_STUDENT, data, write_inputs
from distributed_runs import make_trainer
from torch.nn import functional as F
from torch.testing import assert_close

from igcv3det.config import BackboneConfig, OptimConfig
from igcv3det.datasets.box_labels import ImageBoxes, write_labels
from igcv3det.detection.box_coder import BoxCoder
from igcv3det.detector import anchors_at, at_input_size
from igcv3det.tasks.distill.input_size import Reencoding, resized
from igcv3det.tasks.distill.module import DistillationModule
from igcv3det.tasks.distill.teacher import Teacher, TeacherNetwork


def test_offsets_of_other_anchors_stand_for_the_same_boxes():
    config = dataclasses.replace(small_config(), image_size=72)
    anchors = dataclasses.replace(config.anchors, trained_size=64)
    source = built(dataclasses.replace(config, anchors=anchors), 1)
    target = built(config, 1)
    coder = BoxCoder(config.variances)
    offsets = torch.randn(2, len(source.anchors), 4)
    assert not torch.equal(source.anchors, target.anchors)
    found = coder.decode(Reencoding(source, target)(offsets), target.anchors)
    assert_close(found, coder.decode(offsets, source.anchors), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    ("trained", "before", "size", "expected"),
    [(300, None, 268, 300), (268, 300, 268, 300), (268, 300, 240, 300), (268, 300, 300, None)],
)
def test_anchors_are_those_of_the_size_that_weights_were_trained_at(
    trained, before, size, expected
):
    anchors = dataclasses.replace(small_config().anchors, trained_size=before)
    config = dataclasses.replace(small_config(), image_size=trained, anchors=anchors)
    assert anchors_at(config, size).trained_size == expected


def test_equal_sizes_change_nothing():
    images = torch.randn(1, 3, 64, 64)
    assert resized(images, 64, 64) is images
    assert resized(images, 48, 64).shape == (1, 3, 48, 48)


@pytest.mark.parametrize("runtime", ["torch", pytest.param("openvino", marks=pytest.mark.slow)])
@pytest.mark.parametrize("trained", [72, None])
def test_the_teacher_runs_at_the_students_size(runtime, trained):
    if runtime == "openvino":
        pytest.importorskip("openvino")
    teacher = built(detector_config(BackboneConfig(name="mobilenetv2", width=0.25), 72), 1)
    anchors = dataclasses.replace(small_config().anchors, trained_size=trained)
    student = built(dataclasses.replace(small_config(), anchors=anchors), 2)  # 64 pixels
    names = ["part1", "part8", "tap", "logits", "offsets", "prefix"]
    images = torch.randn(2, 3, 72, 72)
    found = Teacher(TeacherNetwork(teacher, student, 2, names, runtime), runtime)(images)
    small = F.interpolate(images, size=(64, 64), mode="bilinear", align_corners=False)
    at_64 = at_input_size(teacher, 64).eval()
    coder = BoxCoder(teacher.config.variances)
    with torch.no_grad():
        tap, last = at_64.backbone.forward_features(small)
        logits, offsets = at_64(small)
        prefix = student.backbone.blocks[0](student.backbone.stem(small))
        first = at_64.backbone.features[:2](small)
    boxes = coder.decode(offsets, at_64.anchors)
    offsets = coder.encode(boxes, student.anchors)  # the same where the anchors are
    expected = [first, last, tap, logits, offsets, prefix]
    for name, value in zip(names, expected, strict=True):
        assert found[name].shape == value.shape
        if runtime == "torch":
            assert_close(found[name], value, rtol=1e-3, atol=1e-3, msg=name)
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
    assert student.detector.config.anchors.trained_size == 64
    trainer = make_trainer(folder, 1, max_steps=1, limit_val_batches=1)
    trainer.fit(student, datamodule=data(folder, 2))
    # the student is the teacher: at its size, all outputs are the same
    metrics = trainer.callback_metrics
    terms = ("stage2", "stage7", "tap0", "score", "offset")
    assert max(float(metrics[f"train/{name}"]) for name in terms) < 1e-5


def test_crops_must_have_the_teachers_size_where_the_student_has_another(folder):
    trainer = make_trainer(folder, 1, max_steps=1, limit_val_batches=0)
    small = data(folder, 2)
    small.crop = dataclasses.replace(small.crop, size=48)
    with pytest.raises(ValueError, match=r"data\.crop\.size must be the teacher's 64, it is 48"):
        trainer.fit(module(folder, WHOLE_STUDENT, 48), datamodule=small)


def write_boxes(folder, student):
    """The same box in the middle of every image: a quarter to three quarters of both sides."""
    names = [path.name for path in (folder / "images").iterdir()]
    box = ImageBoxes(torch.tensor([[0.25, 0.25, 0.75, 0.75]]), torch.tensor([1]), torch.ones(1))
    path = folder / "boxes.json"
    sizes = dict.fromkeys(names, (96, 96))
    write_labels(path, dict.fromkeys(names, box), sizes, student.categories)
    return str(path)


def test_boxes_are_those_of_the_students_pixels(folder):
    student = module(folder, dataclasses.replace(WHOLE_STUDENT, box_weight=1.0), 48)
    crops = data(folder, 2)
    crops.categories = student.categories
    crops.boxes = (write_boxes(folder, student),)
    seen = []
    student.criterion.register_forward_pre_hook(lambda _, arguments: seen.append(arguments))
    make_trainer(folder, 1, max_steps=1, limit_val_batches=0).fit(student, datamodule=crops)
    ((_, anchors, targets),) = seen
    assert anchors.shape == student.detector.anchors.shape
    for target in targets:
        assert_close(target.boxes, torch.tensor([[12.0, 12.0, 36.0, 36.0]]))
    assert float(student.losses["box"]) > 0


def test_a_loss_on_boxes_needs_whole_crops(folder):
    student = module(folder, dataclasses.replace(WHOLE_STUDENT, box_weight=1.0), 64)
    crops = data(folder, 2)
    crops.categories = student.categories
    crops.boxes = (write_boxes(folder, student),)
    crops.crop = dataclasses.replace(crops.crop, size=48)
    trainer = make_trainer(folder, 1, max_steps=1, limit_val_batches=0)
    with pytest.raises(ValueError, match=r"box_weight is set: data\.crop\.size must be the teach"):
        trainer.fit(student, datamodule=crops)
