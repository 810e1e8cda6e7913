from dataclasses import replace

import pytest
import torch
from distillation_networks import HEAD, built, detector_config, small_config
from torch import nn
from torch.testing import assert_close

from igcv3det.config import BackboneConfig
from igcv3det.tasks.distill.config import (
    DISTILLATION_PARTS,
    SHARED_PARTS,
    DistillationConfig,
)
from igcv3det.tasks.distill.initial import initialise_student
from igcv3det.tasks.distill.start import (
    copy_parts,
    copy_shared_parts,
    detector_parts,
    shared_parts,
    take_statistics,
)


def test_shared_parts_of_another_family_are_copied():
    teacher = built(detector_config(BackboneConfig(name="mobilenetv2")), 1)
    student = built(detector_config(BackboneConfig()), 2)
    copied = copy_shared_parts(student, teacher)
    assert copied == ["stem", "last", "extras", "head", "scale of the fine tap"]
    images = torch.randn(1, 3, 64, 64)
    assert_close(student.backbone.stem(images), teacher.backbone.features[0](images))
    features = torch.randn(1, 320, 2, 2)
    assert_close(student.backbone.last(features), teacher.backbone.features[-1](features))
    last = student.backbone.last(features)
    assert_close(student.extras(last), teacher.extras(last))
    tap = student.backbone.blocks[student.backbone.tap_block].expand[1]
    assert_close(tap.bias, teacher.backbone.features[14].conv[0][1].bias)


def test_what_does_not_fit_stays():
    teacher, student = built(small_config(), 1), built(small_config(width=0.5), 2)
    before = student.backbone.stem[0].weight.clone()
    # the narrow backbones' last 1x1 has 1280 channels in both, but takes others
    assert copy_shared_parts(student, teacher) == ["extras"] or "stem" not in copy_shared_parts(
        student, teacher
    )
    assert_close(student.backbone.stem[0].weight, before)


def test_chosen_parts_are_copied_and_no_others():
    teacher = built(detector_config(BackboneConfig(name="mobilenetv2")), 1)
    student = built(detector_config(BackboneConfig()), 2)
    stem = student.backbone.stem[0].weight.clone()
    copy_parts(student, teacher, ("last", "head"))
    features = torch.randn(1, 320, 2, 2)
    assert_close(student.backbone.last(features), teacher.backbone.features[-1](features))
    for own, taught in zip(student.head.parameters(), teacher.head.parameters(), strict=True):
        assert torch.equal(own, taught)
    assert torch.equal(student.backbone.stem[0].weight, stem)


def test_a_chosen_part_of_another_shape():
    teacher, student = built(small_config(), 1), built(small_config(width=0.5), 2)
    with pytest.raises(ValueError, match="teacher's stem does not fit"):
        copy_parts(student, teacher, ("stem",))


def test_heads_of_other_categories_stay():
    from igcv3det.structures import Categories

    teacher, student = built(small_config(), 1), built(small_config(), 2)
    teacher.categories = Categories((1, 2, 9), ("a", "b", "c"))
    assert "head" not in copy_shared_parts(student, teacher)


def test_a_part_that_is_not_the_teachers_cannot_be_frozen():
    teacher, student = built(small_config(), 1), built(small_config(width=0.5), 2)
    config = DistillationConfig(start="shared", frozen=("stem", "stage1"))
    with pytest.raises(ValueError, match=r"frozen: the teacher's stem does not fit the student"):
        initialise_student(student, teacher, config, None)


PADDING = {"padding": "symmetric"}
EPS = {"backbone": BackboneConfig(norm_eps=0.001)}
HEAD_EPS = {"head": replace(HEAD, norm_eps=0.01)}


@pytest.mark.parametrize(
    ("start", "change", "message"),
    [
        *(
            (start, *case)
            for start in ("shared", "morph")
            for case in (
                (PADDING, "has model.detector.padding same, not symmetric"),
                (EPS, "has model.detector.backbone.norm_eps 1e-05, not 0.001"),
                (HEAD_EPS, "has model.detector.head.norm_eps 0.001, not 0.01"),
                (
                    PADDING | EPS,
                    "padding same, not symmetric; model.detector.backbone.norm_eps 1e-05, not",
                ),
            )
        ),
        (("stem",), PADDING, "stem, which has model.detector.padding same"),
        (("stem",), EPS, "stem, which has model.detector.backbone.norm_eps 1e-05"),
        (("last",), EPS, "last, which has model.detector.backbone.norm_eps 1e-05"),
        (("last",), PADDING | HEAD_EPS, None),
        (("extras",), PADDING, "extras, which has model.detector.padding same"),
        (("extras",), HEAD_EPS, "extras, which has model.detector.head.norm_eps 0.001"),
        (("head",), HEAD_EPS, "head, which has model.detector.head.norm_eps 0.001"),
        (("extras", "head"), EPS, None),
    ],
)
def test_a_part_is_copied_where_it_computes_the_same(start, change, message):
    teacher = built(detector_config(BackboneConfig(name="mobilenetv2")), 1)
    student = built(replace(detector_config(BackboneConfig()), **change), 2)
    is_start = isinstance(start, str)
    config = DistillationConfig(**({"start": start} if is_start else {"copied": start}))
    if message is None:
        initialise_student(student, teacher, config, None)
    else:
        with pytest.raises(ValueError, match=message):
            initialise_student(student, teacher, config, None)


def test_a_part_that_does_not_fit_may_be_padded_otherwise():
    teacher = built(detector_config(BackboneConfig(name="mobilenetv2")), 1)
    narrow = replace(HEAD, extra_channels=(8, 8), norm_eps=0.01)
    student = built(replace(detector_config(BackboneConfig()), head=narrow), 2)
    assert copy_shared_parts(student, teacher) == ["stem", "last", "scale of the fine tap"]


def test_parts_are_the_whole_network():
    student = built(small_config(), 1)
    parts = detector_parts(student)
    assert sorted(parts) == sorted(DISTILLATION_PARTS)
    own = [p for modules in parts.values() for module in modules for p in module.parameters()]
    assert {id(p) for p in own} == {id(p) for p in student.parameters()}
    assert len(own) == len(list(student.parameters()))


def test_only_igcv3_can_be_a_student():
    with pytest.raises(ValueError, match="igcv3"):
        detector_parts(built(detector_config(BackboneConfig(name="mobilenetv2", width=0.25)), 1))
    assert tuple(shared_parts(built(small_config(), 1))) == SHARED_PARTS


def test_a_stage_starts_with_the_teachers_mean_and_deviation():
    student = built(small_config(repeats=(1, 1, 1, 1, 1, 1, 1)), 1)
    maps = {2: 3 * torch.randn(2, 6, 4, 4) + torch.arange(6.0).reshape(1, 6, 1, 1)}
    maps = {2: maps[2][:, : student.backbone.blocks[1].project[0].out_channels]}
    more = {2: maps[2] + 1}
    take_statistics(student, [maps, more])
    rows = torch.cat([maps[2], more[2]]).transpose(0, 1).flatten(1)
    block = student.backbone.blocks[1].train()
    out = block.project(torch.randn(4, block.project[0].in_channels, 8, 8))
    # batch normalisation in training mode gives exactly its own bias and weight
    assert_close(out.mean(dim=(0, 2, 3)), rows.mean(dim=1), rtol=0, atol=1e-4)
    assert_close(out.std(dim=(0, 2, 3), correction=0), rows.std(dim=1), rtol=1e-3, atol=0)


def test_statistics_are_those_after_p2():
    student = built(small_config(p2=True), 1)
    block = student.backbone.blocks[1].train()
    channels = block.project[0].out_channels
    maps = torch.randn(2, channels, 8, 8) + torch.arange(channels).reshape(1, -1, 1, 1)
    take_statistics(student, [{2: maps}])
    out = block.p2(block.project(torch.randn(4, block.project[0].in_channels, 8, 8)))
    assert_close(out.mean(dim=(0, 2, 3)), maps.mean(dim=(0, 2, 3)), rtol=0, atol=1e-4)


def test_synchronised_norms_take_the_same_statistics():
    plain, synchronised = built(small_config(), 1), built(small_config(), 1)
    synchronised = nn.SyncBatchNorm.convert_sync_batchnorm(synchronised)
    channels = plain.backbone.blocks[1].project[0].out_channels
    maps = torch.randn(2, channels, 8, 8)
    for student in (plain, synchronised):
        take_statistics(student, [{2: maps}])
    for name, value in plain.state_dict().items():
        assert torch.equal(synchronised.state_dict()[name], value), name


def test_later_blocks_start_with_a_quarter():
    student = built(small_config(), 1)
    channels = student.backbone.blocks[1].project[0].out_channels
    maps = torch.randn(2, channels, 8, 8)
    take_statistics(student, [{2: maps}])
    first, second = (student.backbone.blocks[i].project[1] for i in (1, 2))
    assert_close(second.weight, first.weight / 4)
    assert (second.bias == 0).all()


def test_other_widths_are_named():
    with pytest.raises(ValueError, match="stage 2 of the teacher has 5 channels"):
        take_statistics(built(small_config(), 1), [{2: torch.randn(1, 5, 2, 2)}])
