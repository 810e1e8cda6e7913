"""What a search does with candidates that fail, full disks and wide reports."""

import contextlib
import dataclasses
import json
import resource
import subprocess
import sys
from itertools import combinations
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tasks.compress.networks import IGCV3, MOBILENETV2, SIZE, explicit_of, teacher_of
from torch.testing import assert_close

from igcv3det.detector import build_detector

pytest.importorskip("scipy")
from igcv3det.tasks.compress import workers
from igcv3det.tasks.compress.assembly import assemble
from igcv3det.tasks.compress.candidate_files import has_weights, weights_file
from igcv3det.tasks.compress.candidates import Candidate
from igcv3det.tasks.compress.detector_parts import head_outputs
from igcv3det.tasks.compress.detector_teacher import DetectorTeacher
from igcv3det.tasks.compress.features import FeatureStore, write_features
from igcv3det.tasks.compress.parts import IMAGES, run_parts
from igcv3det.tasks.compress.price import Price
from igcv3det.tasks.compress.report import off_note
from igcv3det.tasks.compress.search import Judged, Search
from igcv3det.weight_files import write_safetensors


def test_a_candidate_that_cannot_be_made_is_left_out(tmp_path, monkeypatch):
    def fail(*_):
        raise FloatingPointError("the loss is not finite")

    monkeypatch.setattr(workers, "_worker", SimpleNamespace(work=tmp_path))
    monkeypatch.setattr(workers, "_train", fail)
    trained = workers.train_candidate(Candidate("block3", "hidden 0.5", {"any": 1}))
    assert str(trained) == "block3-hidden_0.5 left out: the loss is not finite"
    kept = json.loads((tmp_path / "candidates" / "block3-hidden_0.5.json").read_text())
    assert kept["loss"] is None


def test_an_error_that_ends_the_search_names_the_candidate(tmp_path, monkeypatch):
    def fail(*_):
        raise IndexError("index 9 is out of range")

    monkeypatch.setattr(workers, "_worker", SimpleNamespace(work=tmp_path))
    monkeypatch.setattr(workers, "_train", fail)
    with pytest.raises(RuntimeError, match=r"^last-channels_0\.5: IndexError: index 9 is out"):
        workers.train_candidate(Candidate("last", "channels 0.5", {"any": 1}))
    assert not list(tmp_path.iterdir())  # it is trained again


def test_a_part_without_candidates_is_named(monkeypatch):
    price = Price(1.0, 1.0, 1.0)
    failed = Judged(Candidate("block3", "groups 2x2", {"any": 1}), price, float("nan"))
    kept = Judged(Candidate("stem", "original", {}), price, 0.0)
    monkeypatch.setattr(Search, "shares_of", lambda *_: price._asdict())
    monkeypatch.setattr(Search, "judged", lambda _: {"stem": [kept], "block3": [failed]})
    with pytest.raises(ValueError, match="--grouped-stages: no candidate of block3 could be"):
        Search.__new__(Search).options_by_position()


def test_features_on_a_full_disk(tmp_path):
    teacher = teacher_of(MOBILENETV2)
    pixels = np.zeros((9, SIZE, SIZE, 3), np.uint8)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limit[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            write_features(teacher, pixels, range(9), tmp_path / "train")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert list((tmp_path / "train").iterdir()) == []
    write_features(teacher, pixels, range(9), tmp_path / "train")
    store = FeatureStore(tmp_path / "train")
    assert store.count == 9
    assert store.read("images").shape == (9, 3, SIZE, SIZE)
    assert store.read("logits0").shape[0] == 9


@pytest.mark.parametrize(
    ("predicted", "measured", "expected"),
    [
        ([0.8, 0.6], [0.8, 0.62], ""),
        ([0.8, 0.66], [0.8, 0.6], "differ by +10.0%, more than 5%"),
        ([0.72, 0.6], [0.8, 0.6], "differ by -10.0%, more than 5%"),
        ([], [], ""),
    ],
)
def test_prices_that_do_not_add_up_are_said(predicted, measured, expected):
    rows = [
        {"predicted": {"latency": a}, "measured_latency": b}
        for a, b in zip(predicted, measured, strict=True)
    ]
    note = off_note(rows)
    assert expected in note
    assert bool(note) == bool(expected)


@pytest.mark.parametrize("config", [MOBILENETV2, IGCV3], ids=["MobileNetV2", "IGCV3"])
def test_grouped_stages_allow_grouped_blocks_only(config):
    teacher = teacher_of(config)
    found = teacher.candidates((4, 5))
    for number, block in enumerate(teacher.blocks[1:], 1):
        own = found[f"block{number}"]
        if block.stage not in (4, 5):
            assert own[0].is_original
            continue
        # what is there already stays on offer if it is grouped
        assert any(c.is_original for c in own) == (min(block.groups) >= 2)
        changed = [b for c in own for b in c.changes.get(f"blocks.{number}", ())]
        assert all(min(b.groups) >= 2 for b in changed)


@pytest.mark.parametrize("classes", [1, 3, 5, 8])
def test_each_candidate_is_offered_once(classes):
    found = teacher_of(dataclasses.replace(MOBILENETV2, num_classes=classes)).candidates()
    for own in found.values():
        assert len({candidate.key for candidate in own}) == len(own)
        assert all(a.changes != b.changes for a, b in combinations(own, 2))


def test_a_stem_whose_channels_a_shortcut_needs_keeps_them():
    listed = explicit_of(MOBILENETV2).config
    backbone = dataclasses.replace(
        listed.backbone,
        stem_channels=16,
        blocks=(
            dataclasses.replace(listed.backbone.blocks[0], channels=16, shortcut=True),
            *listed.backbone.blocks[1:],
        ),
    )
    teacher = DetectorTeacher(build_detector(dataclasses.replace(listed, backbone=backbone)).eval())
    for own in teacher.candidates().values():
        for candidate in own:
            teacher.build(teacher.design | candidate.changes)


def test_a_detector_without_one_of_the_blocks(tmp_path):
    teacher = teacher_of(MOBILENETV2)
    found = teacher.candidates()
    gone = next(c for own in found.values() for c in own if c.name == "nothing")
    chosen = {position: own[0] for position, own in found.items()} | {gone.position: gone}
    path = tmp_path / "nothing.safetensors"
    write_safetensors(path, {}, {})  # a part without weights
    detector, _ = assemble(teacher, chosen, {gone.key: path})
    images = torch.randn(1, 3, SIZE, SIZE)
    parts = teacher.parts()
    parts[gone.position].blocks = torch.nn.ModuleList()
    with torch.no_grad():
        expected = head_outputs(run_parts(parts, {IMAGES: images}), teacher.network.head.columns)
        assert_close(tuple(detector(images)), tuple(expected), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("stages", "expected"), [((), ""), ((7, 4), "grouped47-"), ((4, 4), "grouped4-")]
)
def test_names_of_a_restricted_search(stages, expected):
    own = SimpleNamespace(options=SimpleNamespace(grouped_stages=stages))
    assert Search.prefix.fget(own) == expected


def test_a_candidate_without_a_block_has_no_weights(tmp_path):
    gone = Candidate("block3", "nothing", {"blocks.3": ()})
    narrow = Candidate("block3", "hidden 0.5", {"blocks.3": (1,)})
    for candidate in (gone, narrow):
        assert not has_weights(tmp_path, candidate)
        write_safetensors(weights_file(tmp_path, candidate), {}, {})
    assert has_weights(tmp_path, gone)
    write_safetensors(weights_file(tmp_path, narrow), {"a": torch.zeros(1)}, {})
    assert has_weights(tmp_path, narrow)


def test_processes_that_are_started_do_not_get_interrupts():
    code = "import signal; print(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, []))"
    blocked = []
    for context in (workers._interrupts_blocked, contextlib.nullcontext):
        with context():
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        blocked.append(done.stdout.strip())
    assert blocked == ["True", "False"]
