"""Initial weights of replacements: exact where the replacement can be."""

import dataclasses

import pytest
import torch
from tasks.compress.networks import IGCV3, MOBILENETV2, SIZE, explicit_of, teacher_of
from torch.testing import assert_close

from igcv3det.detector import build_detector

pytest.importorskip("scipy")
from igcv3det.tasks.compress.candidates import Candidate
from igcv3det.tasks.compress.detector_teacher import DetectorTeacher
from igcv3det.tasks.compress.least_squares import (
    eliminate,
    fit,
    moments,
    reduced_rank,
)
from igcv3det.tasks.compress.parts import IMAGES, TAP, run_parts
from igcv3det.tasks.compress.start import start_candidate


def _values(teacher, images=24):
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(images, 3, SIZE, SIZE, generator=generator)
    parts = teacher.parts()
    with torch.no_grad():
        return parts, run_parts(parts, {IMAGES: pixels})


def _metrics(found):
    return {name: torch.eye(value.shape[1]) for name, value in found.items()}


def _started(teacher, candidate, values=None):
    parts, found = values or _values(teacher)
    part = parts[candidate.position]
    reads = part.reads
    replacement = start_candidate(candidate, teacher, found[reads], _metrics(found))
    with torch.no_grad():
        outputs = replacement.part(found[reads])
    return outputs, [found[name] for name in part.outputs], replacement


@pytest.mark.parametrize("config", [MOBILENETV2, IGCV3], ids=["MobileNetV2", "IGCV3"])
@pytest.mark.parametrize("position", ["stem", "block3", "last", "extra3", "head0"])
def test_replacements_of_the_originals_size_compute_the_original(config, position):
    teacher = teacher_of(config)
    design = teacher.design
    tap = teacher.network.backbone.feature_channels[0]
    changes = {
        "stem": {"stem": design["stem"]},
        "block3": {"blocks.3": (dataclasses.replace(design["blocks.3"][0], groups=(1, 1)),)},
        "last": {"class_rank.1": 18},
        "extra3": {"extra_hidden.1": 16},
        "head0": {"class_rank.0": min(tap, 18)},
    }[position]
    if position == "stem" and config is IGCV3:
        changes = {"blocks.0": (dataclasses.replace(design["blocks.0"][0], groups=(1, 1)),)}
    outputs, expected, _ = _started(teacher, Candidate(position, "same size", changes))
    for own, value in zip(outputs, expected, strict=True):
        assert float((own - value).square().mean()) < 1e-3 * float(value.var())


@pytest.mark.parametrize("p2", [False, True])
def test_a_grouped_block_is_found_again_behind_its_dense_form(p2):
    """The teacher's block is a grouped one, written densely with its hidden channels shuffled."""
    plain = explicit_of(MOBILENETV2)
    backbone = dataclasses.replace(plain.config.backbone, p2=p2)
    network = build_detector(dataclasses.replace(plain.config, backbone=backbone)).eval()
    network.load_state_dict(plain.state_dict())
    teacher = DetectorTeacher(network)
    design = teacher.design
    (block,) = design["blocks.5"]
    grouped = dataclasses.replace(block, groups=(2, 2), relu="depthwise")
    assert not grouped.hidden % 4
    dense = teacher.network.backbone.blocks[5]
    torch.manual_seed(1)
    shuffled = torch.randperm(grouped.hidden)
    hidden = grouped.hidden
    # P2 reads channels 0 2 4 6 1 3 5 7 of eight, and the first four are of the first group
    pieces = torch.arange(block.channels).chunk(4 if p2 else 2)
    outs = [torch.cat(pieces[group::2]) for group in range(2)]
    cell = torch.empty(hidden, dtype=torch.int64)
    cell[shuffled] = torch.arange(hidden) * 4 // hidden  # 0..3: (G1 index, G2 index)
    del dense.expand[2]  # the paper's block has no ReLU6 there
    entering = dense.expand[0].in_channels // 2
    with torch.no_grad():
        for unit in range(hidden):
            first, second = divmod(int(cell[unit]), 2)
            dense.expand[0].weight[unit, (1 - first) * entering : (2 - first) * entering] = 0
            dense.project[0].weight[outs[1 - second], unit] = 0
    outputs, expected, _ = _started(
        teacher, Candidate("block5", "groups 2x2", {"blocks.5": (grouped,)})
    )
    assert_close(outputs[0], expected[0], rtol=2e-2, atol=2e-2)


def test_the_fine_map_of_a_grouped_block_is_the_originals_reordered():
    teacher = teacher_of(MOBILENETV2)
    (candidate,) = [
        c
        for own in teacher.candidates().values()
        for c in own
        if c.name == "groups 2x2" and f"{c.position}" == _tap_position(teacher)
    ]
    outputs, expected, replacement = _started(teacher, candidate)
    order = replacement.tap_order
    assert sorted(order.tolist()) == list(range(len(order)))
    plain = ((outputs[0] - expected[0]) ** 2).mean()
    reordered = ((outputs[0] - expected[0][:, order]) ** 2).mean()
    assert reordered < 0.7 * plain


def _tap_position(teacher):
    parts = teacher.parts()
    return next(name for name, part in parts.items() if TAP in part.outputs)


@pytest.mark.parametrize("config", [MOBILENETV2, IGCV3], ids=["MobileNetV2", "IGCV3"])
def test_every_candidate_starts_better_than_the_mean(config):
    teacher = teacher_of(config)
    candidates = teacher.candidates()
    names = {c.name.split(" ")[0] for own in candidates.values() for c in own}
    expected = {"groups", "two"} if config is MOBILENETV2 else set()
    assert {"hidden", "nothing", "channels"} | expected <= names
    values = _values(teacher)
    for own in candidates.values():
        for candidate in own[1:]:
            outputs, expected, replacement = _started(teacher, candidate, values)
            for name, mine, value in zip(replacement.part.outputs, outputs, expected, strict=True):
                is_constant = float(value.var(dim=(0, 2, 3)).mean()) < 1e-9
                if name == TAP or candidate.name == "nothing" or is_constant:
                    continue
                unexplained = float(
                    (mine - value).square().mean() / value.var(dim=(0, 2, 3)).mean()
                )
                assert unexplained < 1, candidate


def test_only_grouped_blocks_are_offered_where_groups_are_required():
    candidates = teacher_of(MOBILENETV2).candidates((4, 5, 6))
    for number in range(6, 16):
        own = candidates[f"block{number}"]
        assert all(min(b.groups) >= 2 for c in own for b in c.changes[f"blocks.{number}"])
    assert candidates["block2"][0].is_original


def test_elimination_is_exact_where_one_channel_goes_at_a_time():
    torch.manual_seed(0)
    x = torch.randn(4000, 6) @ torch.randn(6, 6)
    y = x @ torch.randn(6, 3) + 0.1 * torch.randn(4000, 3)
    kept = eliminate(moments(x, y), torch.eye(3), 5)

    def error(columns):
        weight, bias = fit(x[:, columns], y)
        return float((x[:, columns] @ weight.T + bias - y).square().sum())

    errors = {left: error([c for c in range(6) if c != left]) for left in range(6)}
    (gone,) = set(range(6)) - set(kept.tolist())
    assert gone == min(errors, key=errors.get)


def test_reduced_rank_is_the_best_of_its_rank():
    torch.manual_seed(0)
    x = torch.randn(5000, 8) @ torch.randn(8, 8)
    weight, metric = torch.randn(6, 8), torch.diag(torch.tensor([9.0, 1, 1, 1, 1, 1]))
    covariance = moments(x, x).covariance

    def error(product):
        change = (x @ (product - weight).T).double()
        return float(((change @ metric.double()) * change).sum(dim=1).mean())

    for rank in (1, 3, 6):
        left, right = reduced_rank(weight, covariance, metric, rank)
        found = error(left @ right)
        for _ in range(20):  # no neighbour of the same rank is better
            near = (left + 0.02 * torch.randn_like(left)) @ (right + 0.02 * torch.randn_like(right))
            assert error(near) >= found * 0.999
    assert found < 1e-3 * error(torch.zeros_like(weight))
    left, right = reduced_rank(weight, covariance, metric, 7)  # more than its own
    assert (left.shape, right.shape) == ((6, 7), (7, 8))
    assert error(left @ right) < 1e-3 * error(torch.zeros_like(weight))
