"""Networks whose blocks differ: the known networks as points of that space, and its limits."""

import dataclasses

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from igcv3det.config import BackboneConfig, BlockConfig, DetectorConfig, HeadConfig
from igcv3det.description import describe, read_description
from igcv3det.detector import build_backbone, build_detector
from igcv3det.fastpath.conv_impl import set_conv_impl
from igcv3det.fastpath.deploy import deploy
from igcv3det.models.connectivity import path_counts
from igcv3det.models.explicit_blocks import explicit_config, explicit_weights
from igcv3det.models.igcv3 import IGCV3
from igcv3det.models.mobilenetv2 import MobileNetV2

# relu, groups, hidden, super-channels and depth differ from block to block
MIXED = BackboneConfig(
    blocks=(
        BlockConfig(1, 16, relu="both"),
        BlockConfig(2, 24, 48, (1, 2)),
        BlockConfig(2, 24, 96, (2, 2), 8, "both", shortcut=True),
        BlockConfig(3, 32, 64, (2, 1), relu="expansion"),
        BlockConfig(4, 64, 128, (4, 4)),
        BlockConfig(4, 64, 64, (2, 4), shortcut=True),
        BlockConfig(5, 96, 192, relu="none"),
        BlockConfig(6, 160, 192, (2, 2)),
        BlockConfig(7, 320, 320, (4, 2), relu="both"),
    ),
    stem_channels=16,
    last_channels=256,
    last_groups=2,
)
HEAD = HeadConfig(
    extra_channels=(64, 32),
    extra_hidden=(32, 16),
    extra_groups=((2, 2), (1, 1)),
    class_ranks=(48, None, 16, 16),
    class_groups=((2, 3), (1, 1), (2, 2), (1, 1)),
)
CONFIG = DetectorConfig(num_classes=3, image_size=96, backbone=MIXED, head=HEAD)


def _randomised(module):
    torch.manual_seed(0)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias, std=0.3)
            nn.init.normal_(part.running_mean, std=0.1)
            nn.init.uniform_(part.running_var, 0.5, 1.5)
    return module.eval()


@pytest.mark.parametrize(
    "config",
    [
        BackboneConfig(width=0.5),
        BackboneConfig(variant="W", width=0.5, groups=(4, 2), relu="both", super_channels=16),
        BackboneConfig(name="mobilenetv2"),
        BackboneConfig(name="mobilenetv2", width=0.5, norm_eps=1e-3),
    ],
    ids=["IGCV3-D", "IGCV3-W", "MobileNetV2", "MobileNetV2 0.5"],
)
def test_known_networks_are_points_of_the_space(config):
    known = _randomised(build_backbone(config, num_classes=7))
    listed = build_backbone(explicit_config(known, config), num_classes=7).eval()
    listed.load_state_dict(explicit_weights(known))
    count = sum(parameter.numel() for parameter in known.parameters())
    assert sum(parameter.numel() for parameter in listed.parameters()) == count
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert_close(listed(images), known(images), rtol=0, atol=1e-5)
        assert_close(listed.forward_features(images), known.forward_features(images))


def test_papers_and_torchvisions_counts():
    for config, count in (
        (BackboneConfig(), 3_491_688),  # IGCV3-D, the paper's 3.5 M
        (BackboneConfig(name="mobilenetv2"), 3_504_872),  # torchvision's documentation
    ):
        kind = MobileNetV2 if config.name == "mobilenetv2" else IGCV3
        listed = IGCV3(explicit_config(kind(config), config))
        assert sum(parameter.numel() for parameter in listed.parameters()) == count


@pytest.mark.parametrize("variant", ["permuted", "dense", "grouped", "onnxruntime", "openvino"])
def test_deployed_copies_compute_the_same(variant):
    detector = _randomised(build_detector(CONFIG))
    deployed = deploy(detector, variant)
    images = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        assert_close(deployed(images), detector(images), rtol=1e-4, atol=1e-4)
    kinds = [type(part).__name__ for part in deployed.modules()]
    assert ("ChannelPermutation" in kinds) == (variant == "permuted")


@pytest.mark.parametrize("conv_impl", ["fast", "folded"])
def test_training_implementations_compute_the_same(conv_impl):
    results = []
    for name in ("reference", conv_impl):
        torch.manual_seed(0)
        detector = _randomised(build_detector(CONFIG))
        names = list(detector.state_dict())
        set_conv_impl(detector, name)
        assert list(detector.state_dict()) == names
        outputs = detector.train()(
            torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(1))
        )
        (outputs.logits.square().sum() + outputs.offsets.square().sum()).backward()
        gradients = {key: value.grad for key, value in detector.named_parameters()}
        results.append((outputs, gradients, dict(detector.state_dict())))
    assert_close(results[1], results[0], rtol=1e-2, atol=1e-2)


def test_checkpoints_describe_such_a_network(tmp_path):
    detector = build_detector(CONFIG)
    config, categories = read_description(
        describe(detector.config, detector.categories), tmp_path / "x"
    )
    assert config == CONFIG
    assert categories == detector.categories


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 0.5}, "backbone.width has no effect beside backbone.blocks"),
        ({"blocks": MIXED.blocks[1:]}, "with all of 1..7"),
        ({"blocks": MIXED.blocks[::-1]}, "in the order of their stages"),
    ],
)
def test_backbones_that_contradict_themselves_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(MIXED, **change)


@pytest.mark.parametrize(
    ("index", "change", "message"),
    [
        (1, {"shortcut": True}, "a shortcut needs stride 1 and equal channels"),
        (7, {"hidden": None, "groups": (1, 1)}, "needs an expansion"),
        (4, {"hidden": 130}, r"backbone\.blocks\[4\]: .*G1 must divide the expanded"),
        (2, {"super_channels": 2, "groups": (2, 4)}, "complementary"),
    ],
)
def test_blocks_that_do_not_fit_are_refused(index, change, message):
    blocks = list(MIXED.blocks)
    blocks[index] = dataclasses.replace(blocks[index], **change)
    with pytest.raises(ValueError, match=message):
        build_backbone(dataclasses.replace(MIXED, blocks=tuple(blocks)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"extra_hidden": (32,)}, "head.extra_hidden needs one value for each extra layer"),
        ({"class_ranks": (8, 8, 8)}, "head.class_ranks needs one value for each map"),
        ({"extra_groups": ((0, 1), (1, 1))}, "head.extra_groups must be >= 1"),
        ({"class_ranks": None}, "head.class_groups needs head.class_ranks"),
    ],
)
def test_heads_that_do_not_fit_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(HEAD, **change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"class_groups": ((1, 1), (1, 1), (7, 7), (1, 1))},
            r"head\.class_groups\[2\]: groups=\(7, 7",
        ),
        ({"extra_groups": ((7, 1), (1, 1))}, r"head\.extra_groups\[0\]: groups=\(7, 1\)"),
    ],
)
def test_groups_that_do_not_divide_the_channels_of_a_head_are_named(change, message):
    head = dataclasses.replace(HEAD, **change)
    with pytest.raises(ValueError, match=message):
        build_detector(dataclasses.replace(CONFIG, head=head))


def test_groups_of_the_last_1x1_are_named():
    with pytest.raises(ValueError, match=r"backbone\.last_groups: "):
        build_backbone(dataclasses.replace(MIXED, last_groups=7))


def test_grouped_layers_behind_each_other_connect_all_channels():
    detector = build_detector(CONFIG)
    last, (extra, _) = detector.backbone.last, detector.extras.layers
    _, reduce, permutation, predict = detector.head.classification[2]
    assert path_counts([last, *extra.parts()]).min() > 0
    assert path_counts([*extra.parts(), reduce, permutation, predict]).min() > 0
    for block in detector.backbone.blocks[1:]:
        parts = [block.expand, block.p1, block.depthwise, block.project]
        assert path_counts(parts).min() > 0


def test_a_block_without_expansion_is_dense():
    with pytest.raises(ValueError, match="without expansion must be"):
        BlockConfig(1, 16, groups=(1, 2))
