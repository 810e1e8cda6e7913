"""Designs, parts, divergences and folded blocks of a detector."""

import dataclasses

import pytest
import torch
from tasks.compress.networks import IGCV3, MOBILENETV2, PERMUTED, SIZE, explicit_of, small_detector
from torch import nn
from torch.distributions import Bernoulli, Categorical, Normal, kl_divergence
from torch.nn import functional as F
from torch.testing import assert_close

from igcv3det.structures import HeadOutputs
from igcv3det.tasks.compress.design import build, config_of, design_of
from igcv3det.tasks.compress.detector_parts import head_outputs, parts_of
from igcv3det.tasks.compress.folded import fold_block, rescale, set_folded
from igcv3det.tasks.compress.parts import IMAGES, run_parts
from igcv3det.tasks.divergence import (
    fisher_direction,
    logits_divergence,
    output_divergence,
)

CONFIGS = pytest.mark.parametrize(
    "config", [MOBILENETV2, IGCV3, PERMUTED], ids=["MobileNetV2", "IGCV3", "P2"]
)


@CONFIGS
def test_the_parts_together_are_the_detector(config):
    detector, teacher = small_detector(config), explicit_of(config)
    images = torch.randn(2, 3, SIZE, SIZE)
    with torch.no_grad():
        parts = parts_of(teacher)
        outputs = head_outputs(run_parts(parts, {IMAGES: images}), teacher.head.columns)
        assert_close(tuple(outputs), tuple(detector(images)), rtol=0, atol=1e-5)
    own = {id(p) for part in parts.values() for p in part.parameters()}
    assert own == {id(p) for p in teacher.parameters()}


@CONFIGS
def test_a_design_without_changes_is_the_same_network(config):
    teacher = explicit_of(config)
    again = build(design_of(teacher.config), teacher)
    again.load_state_dict(teacher.state_dict())
    images = torch.randn(1, 3, SIZE, SIZE)
    with torch.no_grad():
        assert_close(tuple(again(images)), tuple(teacher(images)))
    assert config_of(design_of(again.config), again.config) == again.config


@CONFIGS
def test_folded_blocks_compute_the_block(config):
    teacher = explicit_of(config)
    for block in [*teacher.backbone.blocks, *teacher.extras.layers]:
        folded = fold_block(block)
        inputs = torch.randn(2, _entering(block), 7, 7)
        x = inputs
        stages = [] if folded.expand is None else [(folded.expand, 1)]
        stages += [(folded.depthwise, len(folded.depthwise.bias)), (folded.project, 1)]
        names = block.PARTS if folded.expand is not None else block.PARTS[1:]
        for name, (affine, groups) in zip(names, stages, strict=True):
            sequence = block.get_submodule(name)
            x = _convolve(sequence[0], x, affine, groups)
            x = F.relu6(x) if isinstance(sequence[-1], nn.ReLU6) else x
        x = x + inputs if getattr(block, "shortcut", False) else x
        with torch.no_grad():
            assert_close(x, block(inputs), rtol=1e-4, atol=1e-4)


def _entering(block):
    convs = [m for m in block.modules() if isinstance(m, nn.Conv2d)]
    return convs[0].in_channels


def _convolve(conv, x, affine, groups):
    dense = type(conv)(
        x.shape[1],
        len(affine.bias),
        conv.kernel_size,
        stride=conv.stride,
        padding=conv.padding if type(conv) is nn.Conv2d else 0,
        groups=groups,
    )
    dense.weight.data, dense.bias.data = affine.weight, affine.bias
    with torch.no_grad():
        return dense(x)


def test_layers_take_folded_weights_exactly():
    teacher = explicit_of(MOBILENETV2)
    block = teacher.backbone.blocks[3]
    folded = fold_block(block)
    images = torch.randn(2, _entering(block), 9, 9)
    with torch.no_grad():
        before = block(images)
        for name, affine in zip(block.PARTS, folded, strict=True):
            set_folded(block.get_submodule(name), affine)
        assert_close(block(images), before, rtol=1e-4, atol=1e-5)


@CONFIGS
def test_rescaling_changes_weights_but_not_the_function(config):
    teacher = explicit_of(config)
    images = torch.randn(2, 3, SIZE, SIZE)
    with torch.no_grad():
        before = teacher(images)
        rescale(teacher)
        assert_close(tuple(teacher(images)), tuple(before), rtol=1e-4, atol=1e-4)
    rows = teacher.backbone.blocks[2].project[0].weight.flatten(1).norm(dim=1)
    assert_close(rows, torch.ones_like(rows))


def test_divergences_are_those_of_torch():
    torch.manual_seed(0)
    own, teacher = (HeadOutputs(3 * torch.randn(2, 5, 4), torch.randn(2, 5, 4)) for _ in range(2))
    pairs = (Bernoulli(logits=x.logits[..., 1:]) for x in (teacher, own))
    expected = kl_divergence(*pairs).sum(dim=(1, 2))
    assert_close(logits_divergence(own.logits, teacher.logits, "sigmoid"), expected)
    scores = teacher.logits[..., 1:].sigmoid().amax(dim=-1)
    boxes = kl_divergence(Normal(teacher.offsets, 1.0), Normal(own.offsets, 1.0)).sum(dim=-1)
    whole = expected + (boxes * scores).sum(dim=1)
    assert_close(output_divergence(own, teacher, "sigmoid"), whole)
    pairs = (Categorical(logits=x.logits) for x in (teacher, own))
    expected = kl_divergence(*pairs).sum(dim=1)
    assert_close(logits_divergence(own.logits, teacher.logits, "softmax"), expected)


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_fisher_directions_predict_the_divergence_of_small_changes(activation):
    generator = torch.Generator().manual_seed(0)
    outputs = HeadOutputs(
        2 * torch.randn(1, 3, 4, generator=generator), torch.randn(1, 3, 4, generator=generator)
    )
    draws = [fisher_direction(outputs, activation, generator) for _ in range(6_000)]
    change = HeadOutputs(
        0.05 * torch.randn(1, 3, 4, generator=generator),
        0.05 * torch.randn(1, 3, 4, generator=generator),
    )
    felt = torch.stack(
        [(d.logits * change.logits).sum() + (d.offsets * change.offsets).sum() for d in draws]
    )
    moved = HeadOutputs(*(a + b for a, b in zip(outputs, change, strict=True)))
    expected = output_divergence(moved, outputs, activation)
    assert_close(0.5 * felt.square().mean(), expected[0], rtol=0.1, atol=0)


def test_designs_that_do_not_fit_are_refused():
    teacher = explicit_of(MOBILENETV2)
    design = design_of(teacher.config)
    (block,) = design["blocks.3"]
    design["blocks.3"] = (dataclasses.replace(block, groups=(5, 5)),)
    with pytest.raises(ValueError, match="groups"):
        build(design, teacher)
