"""Deployed detectors compute what the detector computes, in every variant."""

import dataclasses

import pytest
import torch
from fake_cuda import fake_cuda
from torch import nn
from torch.testing import assert_close

from igcv3det.config import BackboneConfig, DetectorConfig, HeadConfig
from igcv3det.detector import build_detector
from igcv3det.fastpath.block_variants import BlockVariant
from igcv3det.fastpath.conv_impl import set_conv_impl
from igcv3det.fastpath.deploy import VARIANTS, ChannelRepeat, deploy
from igcv3det.models.layers import ChannelPermutation

SIZE = 64
BACKBONE = BackboneConfig(width=0.5, depth=0.2)
CONFIG = DetectorConfig(num_classes=2, image_size=SIZE, head=HeadConfig(extra_channels=(16, 16)))
BACKBONES = {
    **{
        f"{g1}-{g2}{'-p2' if p2 else ''}": BackboneConfig(
            width=0.5, depth=0.2, groups=(g1, g2), p2=p2
        )
        for g1 in (1, 2, 4)
        for g2 in (1, 2, 4)
        for p2 in (False, True)
    },
    "no-p1": dataclasses.replace(BACKBONE, p1=False),
    "super-channels": dataclasses.replace(BACKBONE, super_channels=8),
    # A0 B0 A1 | B1 A2 B2: a projection group takes more of one branch than of the other
    "uneven": BackboneConfig(width=0.75, depth=0.2, super_channels=6),
    **{f"relu-{r}": dataclasses.replace(BACKBONE, relu=r) for r in ("expansion", "both", "none")},
    "mobilenetv2": BackboneConfig(name="mobilenetv2", width=0.25),
}
ALL_VARIANTS = ["permuted", *VARIANTS]


def detector(backbone, **changes):
    built = build_detector(dataclasses.replace(CONFIG, backbone=backbone, **changes))
    for part in built.modules():
        if isinstance(part, nn.BatchNorm2d):  # fresh ones would hide a norm in the wrong place
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias, std=0.1)
            nn.init.normal_(part.running_mean, std=0.1)
            nn.init.uniform_(part.running_var, 0.5, 1.5)
    return built.eval()


def assert_same(one, other):
    images = torch.randn(2, 3, SIZE, SIZE)
    with torch.no_grad():
        assert_close(tuple(other(images)), tuple(one(images)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_variant_computes_the_same(backbone):
    reference = detector(BACKBONES[backbone])
    for variant in ALL_VARIANTS:
        assert_same(reference, deploy(reference, variant))


def test_grouped_expansion_with_dense_projection():
    reference = detector(BACKBONE)
    assert_same(reference, deploy(reference, lambda _: BlockVariant("grouped", "dense")))


def test_tensorflow_padding_stays():
    reference = detector(BACKBONE, padding="same", image_size=SIZE)
    assert_same(reference, deploy(reference, "openvino"))


def test_released_size():
    reference = detector(BackboneConfig())
    for variant in ("torch", "onnxruntime", "openvino"):
        assert_same(reference, deploy(reference, variant))


@pytest.mark.parametrize("variant", VARIANTS)
def test_nothing_but_convolutions_is_left(variant):
    deployed = deploy(detector(BackboneConfig()), variant)
    kinds = {type(part) for part in deployed.backbone.modules()}
    assert not kinds & {ChannelPermutation, nn.BatchNorm2d}
    assert not any(parameter.requires_grad for parameter in deployed.parameters())


def test_grouped_variant_has_the_papers_weights_and_dense_twice_as_many():
    def pointwise(variant):
        blocks = deploy(reference, variant).backbone.blocks
        convs = [m for m in blocks.modules() if isinstance(m, nn.Conv2d) and m.kernel_size[0] == 1]
        return sum(conv.weight.numel() for conv in convs)

    reference = detector(BackboneConfig())
    assert pointwise("grouped") == pointwise("permuted")
    assert pointwise("dense") == 2 * pointwise("permuted")


def test_variants_follow_the_width_of_the_groups():
    def groups(library):
        blocks = deploy(detector(BackboneConfig()), library).backbone.blocks
        found = {}
        for block in blocks:
            *repeat, expand = [m for m in block.expand if not isinstance(m, nn.ReLU6)]
            key = (expand.in_channels // (repeat[0].times if repeat else 1), expand.out_channels)
            found[key] = (expand.groups, block.project[0].groups)
        return found

    # (groups of the expansion, of the projection) by (C, E); 16 channels a group or more are whole
    wide = {(32, 192): (4, 2), (64, 384): (4, 2), (96, 576): (4, 2), (160, 960): (4, 2)}
    narrow = {(32, 32): (2, 1), (16, 96): (1, 1), (24, 144): (1, 1)}
    assert groups("onnxruntime") == narrow | wide
    assert groups("openvino") == dict.fromkeys(narrow, (1, 2)) | wide


def test_the_detector_is_left_unchanged_whatever_its_conv_impl():
    reference = detector(BACKBONE)
    before = {name: value.clone() for name, value in reference.state_dict().items()}
    fast = detector(BACKBONE)
    fast.load_state_dict(before)
    set_conv_impl(fast.train(), "fast")
    assert_same(reference, deploy(fast, "grouped"))
    assert fast.training
    assert_close(dict(reference.state_dict()), before, rtol=0, atol=0)


def test_deploying_twice_changes_nothing():
    reference = detector(BACKBONE)
    assert_same(reference, deploy(deploy(reference, "grouped"), "permuted"))


def test_channel_repeat():
    x = torch.arange(12.0).reshape(1, 3, 2, 2)
    assert_close(ChannelRepeat(2)(x), torch.cat([x, x], dim=1))


@pytest.mark.parametrize("name", ["igcv3", "mobilenetv2"])
def test_no_norm_is_left(name):
    config = DetectorConfig(image_size=64, backbone=BackboneConfig(name=name, width=0.25))
    deployed = deploy(build_detector(config), "torch")
    assert not any(isinstance(part, nn.BatchNorm2d) for part in deployed.modules())


@pytest.mark.parametrize(("backbone", "variant"), [("2-4", "grouped"), ("mobilenetv2", "dense")])
def test_weights_on_a_gpu_stay_there(backbone, variant):
    config = dataclasses.replace(CONFIG, backbone=BACKBONES[backbone])
    with fake_cuda(), torch.device("cuda"):
        deployed = deploy(build_detector(config), variant)
        outputs = deployed(torch.zeros(2, 3, SIZE, SIZE))
        tensors = [*outputs, *deployed.parameters(), *deployed.buffers()]
        assert {tensor.device.type for tensor in tensors} == {"cuda"}


@pytest.mark.gpu
@pytest.mark.parametrize("variant", ["torch", "grouped"])
def test_on_a_gpu(variant):
    reference = detector(BACKBONE)
    images = torch.randn(2, 3, SIZE, SIZE)
    with torch.no_grad():
        expected = reference(images)
        found = deploy(reference.cuda(), variant)(images.cuda())
    # TF32 is off by default; sums in another order remain
    assert_close(found.logits.cpu(), expected.logits, rtol=1e-4, atol=1e-4)
