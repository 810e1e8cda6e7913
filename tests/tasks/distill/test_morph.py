import dataclasses

import pytest
import torch
from distillation_networks import built, detector_config, small_config
from torch.testing import assert_close

from igcv3det.config import BackboneConfig
from igcv3det.tasks.compress.design import explicit_detector
from igcv3det.tasks.distill.morph import morph


@pytest.fixture(scope="module")
def teacher():
    return built(detector_config(BackboneConfig(name="mobilenetv2", norm_eps=1e-3)), 1)


def test_one_group_and_two_relus_compute_what_the_mobilenetv2_computes(teacher):
    config = BackboneConfig(groups=(1, 1), relu="both", norm_eps=1e-3)
    student = built(detector_config(config), 2)
    morph(student, teacher)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert_close(student(images), teacher(images), rtol=0, atol=1e-4)


def test_equal_depth_is_a_plain_copy(teacher):
    config = BackboneConfig(
        groups=(1, 1), relu="both", norm_eps=1e-3, repeats=(1, 2, 3, 4, 3, 3, 1)
    )
    student = built(detector_config(config), 2)
    morph(student, teacher)
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert_close(student(images), teacher(images), rtol=0, atol=1e-4)


@pytest.mark.parametrize("p1", [True, False])
def test_two_groups_keep_what_lies_within_them(teacher, p1):
    config = BackboneConfig(groups=(2, 2), relu="both", norm_eps=1e-3, p1=p1)
    student = built(detector_config(config), 2)
    morph(student, teacher)
    block, taught = student.backbone.blocks[1], teacher.backbone.features[2].conv
    dense = taught[0][0].weight.flatten(1).clone()  # [96, 16]
    dense[:48, 8:] = 0
    dense[48:, :8] = 0
    x = torch.randn(1, 16, 5, 5)
    with torch.no_grad():
        expected = taught[0][1](torch.einsum("oi,bihw->bohw", dense, x)).clamp(0, 6)
        assert_close(block.expand(x), expected, rtol=0, atol=1e-5)
        # the projection reads the depthwise outputs in P1's order: with two groups even channels
        # are the first projection group's, without P1 the first half
        narrow = taught[2].weight.flatten(1).clone()  # [24, 96]
        first = torch.zeros(96, dtype=torch.bool)
        if p1:
            first[torch.arange(96).reshape(2, 48).T.flatten()[:48]] = True
        else:
            first[:48] = True
        narrow[:12, ~first] = 0
        narrow[12:, first] = 0
        hidden = taught[1](expected)
        projected = taught[3](torch.einsum("oi,bihw->bohw", narrow, hidden))
        assert_close(block(x), projected, rtol=0, atol=1e-4)


def test_the_projection_is_filled_in_the_order_before_p2(teacher):
    config = BackboneConfig(groups=(2, 2), relu="both", norm_eps=1e-3, p2=True)
    student = built(detector_config(config), 2)
    morph(student, teacher)
    block, taught = student.backbone.blocks[1], teacher.backbone.features[2].conv
    places = torch.arange(96.0).reshape(1, -1, 1, 1)
    with torch.no_grad():
        order = block.p1(places).flatten().long()  # the teacher's hidden channel at each place
        found = block.p2(block.project[0](torch.eye(96)[:, :, None, None])).flatten(1).T  # [24, 96]
        wanted = taught[2].weight.flatten(1)[:, order]
        kept = found != 0
        assert kept.float().mean() == 0.5
        assert_close(found[kept], wanted[kept])
        for name, value in taught[3].state_dict().items():
            if value.ndim:
                own = block.project[1].state_dict()[name].reshape(1, -1, 1, 1)
                assert_close(block.p2(own).flatten(), value)


def test_a_block_without_expansion_takes_the_teachers_first(teacher):
    config = BackboneConfig(groups=(1, 1), relu="both", norm_eps=1e-3)
    listed = explicit_detector(built(detector_config(config), 2)).config.backbone
    blocks = [dataclasses.replace(listed.blocks[0], hidden=None), *listed.blocks[1:]]
    student = built(detector_config(dataclasses.replace(listed, blocks=tuple(blocks))), 2)
    morph(student, teacher)
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert_close(student(images), teacher(images), rtol=0, atol=1e-4)
    blocks[1] = dataclasses.replace(blocks[1], hidden=None)
    student = built(detector_config(dataclasses.replace(listed, blocks=tuple(blocks))), 2)
    with pytest.raises(ValueError, match="stage 2, block 0: other widths than the teacher's"):
        morph(student, teacher)


def test_stages_that_do_not_fit_are_named(teacher):
    shallow = BackboneConfig(groups=(1, 1), repeats=(1, 1, 3, 4, 3, 3, 1), norm_eps=0.001)
    with pytest.raises(ValueError, match="stage 2: 1 blocks cannot hold the teacher's 2"):
        morph(built(detector_config(shallow), 2), teacher)
    with pytest.raises(ValueError, match="stage 1, block 0: other widths"):
        morph(built(detector_config(BackboneConfig(width=0.5, norm_eps=0.001)), 2), teacher)
    with pytest.raises(ValueError, match="needs an igcv3 student and a mobilenetv2 teacher"):
        morph(built(small_config(), 1), built(small_config(), 2))
