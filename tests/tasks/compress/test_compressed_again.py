"""Detectors whose class and extra layers are split, grouped or narrowed already."""

import dataclasses
import json

import pytest
import torch
from tasks.compress.networks import (
    COMPRESSED,
    MOBILENETV2,
    SIZE,
    explicit_of,
    small_detector,
    teacher_of,
)
from torch import nn
from torch.testing import assert_close

pytest.importorskip("scipy")
from igcv3det.checkpoint import load_detector, save_detector
from igcv3det.cli.compress import main
from igcv3det.shapes.dataset import write_shapes
from igcv3det.tasks.compress import price
from igcv3det.tasks.compress.candidates import Candidate
from igcv3det.tasks.compress.detector_teacher import DetectorTeacher
from igcv3det.tasks.compress.folded import fold_pointwise
from igcv3det.tasks.compress.parts import IMAGES, run_parts
from igcv3det.tasks.compress.search import Search
from igcv3det.tasks.compress.start import start_candidate


def _with_head(config=MOBILENETV2, **changes):
    return dataclasses.replace(config, head=dataclasses.replace(config.head, **changes))


def _with_backbone(**changes):
    config = explicit_of(MOBILENETV2).config
    return dataclasses.replace(config, backbone=dataclasses.replace(config.backbone, **changes))


def _start(teacher, candidate, images=16):
    """A replacement with its initial weights, what it reads and what the original writes."""
    generator = torch.Generator().manual_seed(0)
    parts = teacher.parts()
    with torch.no_grad():
        pixels = torch.randn(images, 3, SIZE, SIZE, generator=generator)
        found = run_parts(parts, {IMAGES: pixels})
    metrics = {name: torch.eye(value.shape[1]) for name, value in found.items()}
    part = parts[candidate.position]
    started = start_candidate(candidate, teacher, found[part.reads], metrics).part
    return started, found[part.reads], [found[name] for name in part.outputs]


def test_class_layers_of_a_rank_above_their_outputs():
    """As fine-tuning on few classes leaves them."""
    head = dataclasses.replace(COMPRESSED.head, class_ranks=(200, 200, 200, 200, None))
    few = dataclasses.replace(COMPRESSED, num_classes=1, head=head)
    teacher = teacher_of(few)
    found = teacher.candidates()
    for candidate in (c for name in ("head0", "last", "head2") for c in found[name]):
        part, inputs, _ = _start(teacher, candidate)
        with torch.no_grad():
            assert all(value.isfinite().all() for value in part(inputs))


@pytest.mark.parametrize("level", range(5))
def test_the_1x1_convolutions_behind_the_depthwise_are_one(level):
    layer = explicit_of(COMPRESSED).head.classification[level]
    nn.init.normal_(layer[-1].bias)
    weight, bias = fold_pointwise(layer)
    x = torch.randn(3, weight.shape[1], 2, 2)
    with torch.no_grad():
        assert_close(nn.functional.conv2d(x, weight, bias), layer[1:](x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("position", "changes", "rank"),
    [
        ("last", {"last": 1280}, 40),
        ("last", {"last": 1280}, 42),
        ("last", {"class_rank.1": None, "class_groups.1": (1, 1)}, 40),
        ("last", {"extra_groups.0": (1, 1)}, 40),
        ("head0", {"class_rank.0": None}, 40),
        ("head2", {"class_rank.2": None, "class_groups.2": (1, 1)}, 40),
        ("extra3", {"extra_groups.1": (1, 1)}, 40),
    ],
)
def test_a_part_of_the_same_function_computes_the_original(position, changes, rank):
    """Of 42 and 18 channels the cells of 2 x 2 groups have different sizes."""
    hidden = (18, *COMPRESSED.head.extra_hidden[1:]) if rank == 42 else COMPRESSED.head.extra_hidden
    ranks = (24, rank, *COMPRESSED.head.class_ranks[2:])
    config = _with_head(COMPRESSED, extra_hidden=hidden, class_ranks=ranks)
    part, inputs, expected = _start(teacher_of(config), Candidate(position, "same", changes))
    with torch.no_grad():
        for own, value in zip(part(inputs), expected, strict=True):
            assert float((own - value).square().mean()) < 1e-3 * float(value.var())


def test_a_grouped_last_1x1_keeps_channels_of_each_group():
    teacher = teacher_of(_with_backbone(last_groups=5))
    part, inputs, _ = _start(teacher, Candidate("last", "channels 0.5", {"last": 640}))
    with torch.no_grad():
        own, whole = (m.last(inputs).flatten(2)[:4] for m in (part, teacher.parts()["last"]))
    distances = torch.cdist(own.movedim(1, 0).flatten(1), whole.movedim(1, 0).flatten(1))
    assert float(distances.min(dim=1).values.max()) < 1e-2


def _offered(config, position, grouped_stages=()):
    own = teacher_of(config).candidates(grouped_stages)[position]
    return {candidate.name: candidate.changes for candidate in own}


def test_only_smaller_ranks_are_offered():
    config = dataclasses.replace(MOBILENETV2, num_classes=20)  # 126 logits a cell
    split = {"class_ranks": (None, None, 64, 64), "class_groups": ((1, 1),) * 2 + ((2, 2),) * 2}
    wide = _with_head(config, extra_channels=(256, 256))
    assert _offered(wide, "head2") == {
        "original": {},
        "rank 64": {"class_rank.2": 64, "class_groups.2": (1, 1)},
        "rank 64 groups 2x2": {"class_rank.2": 64, "class_groups.2": (2, 2)},
        "rank 32": {"class_rank.2": 32, "class_groups.2": (1, 1)},
    }
    assert _offered(_with_head(wide, **split), "head2") == {
        "original": {},
        "rank 32": {"class_rank.2": 32, "class_groups.2": (1, 1)},
    }


def test_narrower_extra_layers_are_dense():
    grouped = _with_head(extra_channels=(128, 128), extra_groups=((2, 2), (2, 2)))
    assert _offered(grouped, "extra3") == {
        "original": {},
        "hidden 0.5": {"extra_hidden.1": 32, "extra_groups.1": (1, 1)},
        "hidden 0.25": {"extra_hidden.1": 16, "extra_groups.1": (1, 1)},
    }
    last = _offered(grouped, "last")
    assert last["extra 0.5"] == {"extra_hidden.0": 32, "extra_groups.0": (1, 1)}
    assert "extra groups 2x2" not in last
    assert "extra groups 2x2" in _offered(_with_head(extra_channels=(64, 32)), "last")
    assert "extra groups 2x2" not in _offered(_with_head(extra_channels=(65, 32)), "last")


def test_a_split_that_a_narrower_last_1x1_makes_dearer_is_given_up():
    """1280 channels and 60 logits a cell: 57 (320 + 60) is more than 320 x 60, 50 (...) is not."""
    ranks = (None, 57, None, None)
    config = _with_head(dataclasses.replace(MOBILENETV2, num_classes=9), class_ranks=ranks)
    merged = {"class_rank.1": None, "class_groups.1": (1, 1)}
    assert _offered(config, "last")["channels 0.25"] == {"last": 320} | merged
    kept = _with_head(config, class_ranks=(None, 50, None, None))
    assert _offered(kept, "last")["channels 0.25"] == {"last": 320}


def test_grouped_blocks_have_no_super_channels_of_the_dense_one():
    blocks = list(explicit_of(MOBILENETV2).config.backbone.blocks)
    blocks[8] = dataclasses.replace(blocks[8], super_channels=6)
    teacher = teacher_of(_with_backbone(blocks=tuple(blocks)))
    grouped = [c for c in teacher.candidates()["block8"] if "2x2" in c.name or "4x4" in c.name]
    assert [c.name for c in grouped] == ["groups 2x2", "groups 4x4", "two blocks 2x2"]
    for candidate in grouped:
        teacher.build(teacher.design | candidate.changes)  # no error
        assert all(b.super_channels is None for b in candidate.changes["blocks.8"])


def test_a_fine_map_that_a_grouped_layer_reads_keeps_its_order():
    ranks, groups = (64, None, None, None), ((2, 2), (1, 1), (1, 1), (1, 1))
    config = dataclasses.replace(MOBILENETV2, num_classes=20)
    grouped = _with_head(config, class_ranks=ranks, class_groups=groups)
    assert "groups 2x2" in _offered(config, "block13")
    assert list(_offered(grouped, "block13")) == ["original"]
    with pytest.raises(ValueError, match="--grouped-stages 6: block13 cannot be grouped, because"):
        _offered(grouped, "block13", (6,))


def test_blocks_that_cannot_be_grouped_are_named_with_the_reason():
    with pytest.raises(ValueError, match=r"--grouped-stages 1: block 0 .* has no expansion"):
        teacher_of(MOBILENETV2).candidates((1,))
    blocks = list(explicit_of(MOBILENETV2).config.backbone.blocks)
    blocks[2] = dataclasses.replace(blocks[2], groups=(1, 2))
    config = _with_backbone(blocks=tuple(blocks))
    with pytest.raises(ValueError, match=r"--grouped-stages 2: block 2 .* only one .*\(1, 2\)"):
        teacher_of(config).candidates((2,))


@pytest.mark.slow
def test_all_candidates_of_a_compressed_detector(tmp_path, monkeypatch):
    """From the file to a smaller one; a candidate that failed would be without a loss."""
    monkeypatch.setattr(price, "ROUNDS", 1)
    monkeypatch.setattr(price, "ATTEMPTS", 1)
    monkeypatch.setattr(Search, "_may_be_chosen", lambda *_: True)  # the dearer ones too
    checkpoint, output = tmp_path / "model.safetensors", tmp_path / "out"
    save_detector(small_detector(COMPRESSED), checkpoint)
    write_shapes(tmp_path, train=44, val=1, image_size=SIZE)
    arguments = f"--checkpoint {checkpoint} --images {tmp_path}/train2017 --output {output}"
    options = "--steps 1 --finish-steps 1 --workers 1 --threads 1 --backend torch --parameters 0.7"
    assert main([*arguments.split(), *options.split()]) == 0
    records = sorted((output / "work" / "candidates").glob("*.json"))
    teacher = DetectorTeacher.load(str(checkpoint))
    offered = [c for own in teacher.candidates().values() for c in own if not c.is_original]
    assert [path.stem for path in records] == sorted(c.key for c in offered)
    assert [json.loads(path.read_text())["error"] for path in records] == [""] * len(offered)
    whole, smaller = (
        sum(p.numel() for p in load_detector(str(path)).parameters())
        for path in (checkpoint, output / "parameters0.7.safetensors")
    )
    assert smaller <= 0.7 * whole
