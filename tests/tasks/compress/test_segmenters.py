"""Segmenters as a search takes them: parts, initial weights, divergences, windows of maps."""

import itertools

import pytest
import torch
from tasks.compress.networks import IGCV3, MOBILENETV2, randomise_norms
from torch.distributions import Categorical, kl_divergence
from torch.nn import functional as F
from torch.testing import assert_close

pytest.importorskip("scipy")
from tasks.compress.windows import assert_windows_suffice

from igcv3det.tasks.compress.parts import IMAGES, run_parts
from igcv3det.tasks.compress.segmenter_parts import explicit_segmenter, logits_of
from igcv3det.tasks.compress.segmenter_teacher import SegmenterTeacher
from igcv3det.tasks.compress.start import start_candidate
from igcv3det.tasks.segment.config import SegmenterConfig
from igcv3det.tasks.segment.masks import ClassLabels
from igcv3det.tasks.segment.network import Segmenter

CASES = [
    pytest.param(backbone, head, stride, id=f"{name}-{head}-{stride}")
    for (name, backbone), (head, stride) in itertools.product(
        [("MobileNetV2", MOBILENETV2.backbone), ("IGCV3", IGCV3.backbone)],
        [("lraspp", 16), ("lraspp", 32), ("deeplab", 16)],
    )
]


def _segmenter(backbone, head="lraspp", stride=16, size=(64, 96)):
    torch.manual_seed(0)
    config = SegmenterConfig(
        num_classes=3,
        image_size=size,
        output_stride=stride,
        head=head,
        head_channels=16,
        padding="same",
        backbone=backbone,
    )
    return randomise_norms(Segmenter(config)).eval()


def _teacher(segmenter):
    labels = ClassLabels((0, 1, 2), (), segmenter.names)
    return SegmenterTeacher(explicit_segmenter(segmenter), labels)


def _values(teacher, images):
    with torch.no_grad():
        return run_parts(teacher.parts(), {IMAGES: images})


@pytest.mark.parametrize(("backbone", "head", "stride"), CASES)
def test_the_parts_together_are_the_segmenter(backbone, head, stride):
    segmenter = _segmenter(backbone, head, stride)
    teacher = _teacher(segmenter)
    images = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        expected = segmenter.coarse_logits(images)
    assert_close(logits_of(_values(teacher, images)), expected, rtol=0, atol=1e-5)
    own = {id(p) for part in teacher.parts().values() for p in part.parameters()}
    assert own == {id(p) for p in teacher.network.parameters()}


@pytest.mark.parametrize(("backbone", "head", "stride"), [CASES[0], CASES[5]])
def test_every_candidate_starts_better_than_the_mean(backbone, head, stride):
    teacher = _teacher(_segmenter(backbone, head, stride))
    found = _values(teacher, torch.randn(8, 3, 64, 96))
    metrics = {name: torch.eye(value.shape[1]) for name, value in found.items()}
    candidates = teacher.candidates()
    assert list(candidates) == list(teacher.parts())
    assert len(candidates["last"]) == (1 if head == "deeplab" else 4)
    for position in ("stem", "block3", "block5", "last"):
        for candidate in candidates[position][-3:]:
            if candidate.is_original or candidate.name == "nothing":
                continue
            inputs = found[teacher.parts()[candidate.position].reads]
            part = start_candidate(candidate, teacher, inputs, metrics).part
            with torch.no_grad():
                outputs = part(inputs)
            for name, mine in zip(part.outputs, outputs, strict=True):
                variance = found[name].var(dim=(0, 2, 3)).mean()
                assert (mine - found[name]).square().mean() < variance, candidate


def test_the_divergence_is_that_of_the_classes_of_all_cells():
    teacher = _teacher(_segmenter(MOBILENETV2.backbone))
    own, other = (_values(teacher, torch.randn(2, 3, 64, 96)) for _ in range(2))
    rows = [
        (v["fine"] + F.interpolate(v["coarse"], v["fine"].shape[-2:], mode="bilinear")).movedim(
            1, -1
        )
        for v in (own, other)
    ]
    expected = kl_divergence(*(Categorical(logits=logits) for logits in reversed(rows)))
    assert_close(teacher.divergence(own, other), expected.sum(dim=(1, 2)))


def test_windows_of_maps_have_all_that_their_outputs_need():
    """Sides that differ, odd ones among them, and dilated blocks."""
    teacher = _teacher(_segmenter(MOBILENETV2.backbone, size=(544, 608)))
    parts = teacher.parts()
    cropped = assert_windows_suffice(parts, _values(teacher, torch.randn(1, 3, 539, 603)))
    assert cropped == [*list(parts)[:-2], "fine"]  # all but the last, which averages its map
