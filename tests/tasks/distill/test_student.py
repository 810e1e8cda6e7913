import pytest
import torch
from distillation_networks import built, small_config
from torch import nn
from torch.testing import assert_close

from igcv3det.tasks.distill.config import DISTILLATION_PARTS, DistillationConfig
from igcv3det.tasks.distill.losses import unexplained_variance
from igcv3det.tasks.distill.start import detector_parts
from igcv3det.tasks.distill.student import DistillationObjective
from igcv3det.tasks.distill.teacher import Teacher, TeacherNetwork

IMAGES = torch.randn(2, 3, 64, 64)


def terms_of(student, teacher, config, images=IMAGES, *, forced=False):
    objective = DistillationObjective(config, tail=teacher if config.teacher_tail else None)
    names = objective.names(forced=forced)
    network = TeacherNetwork(teacher, student, objective.prefix, names, "torch")
    expected = Teacher(network, "torch")(images)
    return objective, *objective.losses(student, images, expected, forced=forced)


@pytest.fixture
def pair():
    return built(small_config(), 1), built(small_config(), 2)


@pytest.mark.parametrize("forced", [False, True])
def test_a_copy_of_the_teacher_has_zero_loss(pair, forced):
    teacher, _ = pair
    objective, terms, _ = terms_of(teacher, teacher, DistillationConfig(), forced=forced)
    stages = {f"stage{n}" for n in range(1, 8)} | {"tap0", "tap1"}
    assert set(terms) == stages | (set() if forced else {"score", "offset"})
    for name, term in terms.items():
        assert_close(term, torch.tensor(0.0), rtol=0, atol=1e-3, msg=name)
    assert objective.total(terms) < 1e-2


def test_terms_are_those_of_the_plain_forward(pair):
    teacher, student = pair
    _, terms, outputs = terms_of(student, teacher, DistillationConfig())
    with torch.no_grad():
        assert_close(outputs, student(IMAGES))
        taps, taught = (d.backbone.forward_features(IMAGES) for d in (student, teacher))
    variance = taught[1].var(dim=(0, 2, 3), correction=0)
    variance = variance.clamp(min=0.05 * variance.mean())
    by_hand = ((taps[1] - taught[1]).square().mean(dim=(0, 2, 3)) / variance).mean()
    assert_close(terms["tap1"], by_hand, rtol=1e-4, atol=0)


@pytest.mark.parametrize("parts", [("stem",), ("stem", "stage1", "stage2", "stage3")])
def test_frozen_parts_are_computed_with_the_teacher(pair, parts):
    teacher, student = pair
    _, whole, _ = terms_of(student, teacher, DistillationConfig())
    objective, later, _ = terms_of(student, teacher, DistillationConfig(frozen=parts))
    assert objective.prefix == len(parts)
    assert later.keys() == whole.keys() - set(parts)
    for name, term in later.items():
        assert_close(term, whole[name], rtol=1e-3, atol=1e-5, msg=name)


def test_teacher_forced_stages_are_independent(pair):
    teacher, student = pair
    _, terms, outputs = terms_of(student, teacher, DistillationConfig(), forced=True)
    assert outputs is None
    student.backbone.blocks[1].project[0].weight.data.mul_(2)  # of stage 2
    _, changed, _ = terms_of(student, teacher, DistillationConfig(), forced=True)
    differing = {name for name in terms if not torch.equal(terms[name], changed[name])}
    assert differing == {"stage2"}


def test_what_no_weight_needs_is_not_run(pair):
    teacher, student = pair
    config = DistillationConfig(
        stage_weights=(1, 2, 0, 0, 0, 0, 0), tap_weight=0, score_weight=0, offset_weight=0
    )
    student.backbone.last[0].weight.data.fill_(float("nan"))
    objective, terms, outputs = terms_of(student, teacher, config)
    assert objective.end == 3
    assert outputs is None
    assert set(terms) == {"stage1", "stage2"}
    assert_close(objective.total(terms), terms["stage1"] + 2 * terms["stage2"])


def test_weights_of_the_heads(pair):
    teacher, student = pair
    config = DistillationConfig(
        stage_weights=(0,) * 7, tap_weight=0, score_weight=0.5, offset_weight=3, box_weight=7
    )
    objective, terms, _ = terms_of(student, teacher, config)
    assert set(terms) == {"score", "offset"}
    assert_close(objective.total(terms), 0.5 * terms["score"] + 3 * terms["offset"])
    boxes = {"classification": torch.tensor(1.0), "box": torch.tensor(2.0)}
    assert_close(objective.total(boxes), torch.tensor(21.0))


def test_boxes_alone_need_no_teacher(pair):
    objective = DistillationObjective(
        DistillationConfig(
            stage_weights=(0,) * 7, tap_weight=0, score_weight=0, offset_weight=0, box_weight=1
        )
    )
    assert objective.names(forced=False) == []
    assert objective.uses_heads


def test_the_fine_tap_is_compared_too(pair):
    teacher, student = pair
    frozen = ("stem", *(f"stage{n}" for n in range(1, 8)), "last")
    objective, terms, outputs = terms_of(student, teacher, DistillationConfig(frozen=frozen))
    assert objective.prefix == 6
    with torch.no_grad():
        assert_close(outputs, student(IMAGES), rtol=1e-3, atol=1e-4)
    assert {"tap0", "tap1", "score", "offset"} <= set(terms)


ALL_BUT_STAGE_4 = tuple(name for name in DISTILLATION_PARTS if name != "stage4")


def test_the_teachers_stages_follow_the_trained_one(pair):
    teacher, student = pair
    config = DistillationConfig(frozen=ALL_BUT_STAGE_4, teacher_tail=True)
    _, terms, outputs = terms_of(student, teacher, config)
    with torch.no_grad():
        x, taps = IMAGES, []
        for part in range(9):
            x, tap = (student if part <= 4 else teacher).backbone.forward_section(part, x)
            taps += [] if tap is None else [tap]
            if part == 7:
                by_hand = unexplained_variance(x, part_of(teacher, 7))
        expected = teacher.head([*taps, x, *teacher.extras(x)])
    assert_close(outputs.logits, expected.logits, rtol=1e-3, atol=1e-4)
    assert_close(outputs.offsets, expected.offsets, rtol=1e-3, atol=1e-4)
    assert_close(terms["stage7"], by_hand, rtol=1e-3, atol=1e-5)
    assert set(terms) == {"stage4", "stage5", "stage6", "stage7", "tap0", "tap1", "score", "offset"}


def part_of(detector, part):
    x = IMAGES
    for number in range(part + 1):
        x, _ = detector.backbone.forward_section(number, x)
    return x


def test_a_teachers_tail_without_scores_ends_with_the_last_weight(pair):
    teacher, student = pair
    config = DistillationConfig(
        frozen=ALL_BUT_STAGE_4,
        teacher_tail=True,
        stage_weights=(0, 0, 0, 1, 1, 0, 0),
        tap_weight=0,
        score_weight=0,
        offset_weight=0,
    )
    objective, terms, outputs = terms_of(student, teacher, config)
    assert (objective.own_end, objective.end) == (5, 6)
    assert outputs is None
    assert set(terms) == {"stage4", "stage5"}


class Negation(nn.Module):
    def forward(self, x, target):
        assert x.shape == target.shape
        return -x


def test_a_mapped_stage_is_compared_after_its_map(pair):
    teacher, student = pair
    config = DistillationConfig(
        stage_weights=(0, 0, 1, 1, 0, 0, 0), tap_weight=0, score_weight=0, offset_weight=0
    )
    with torch.no_grad():
        expected = {f"part{n}": part_of(teacher, n) for n in (3, 4)}
    objective = DistillationObjective(config, nn.ModuleDict({"part3": Negation()}))
    terms, _ = objective.losses(student, IMAGES, expected, forced=False)
    own = [part_of(student, n) for n in (3, 4)]
    assert_close(terms["stage3"], unexplained_variance(-own[0], expected["part3"]))
    assert_close(terms["stage4"], unexplained_variance(own[1], expected["part4"]))


def test_nothing_to_train_is_refused():
    frozen = ("stem", *(f"stage{n}" for n in range(1, 8)))
    with pytest.raises(ValueError, match="depends on is frozen"):
        DistillationObjective(
            DistillationConfig(frozen=frozen, tap_weight=0, score_weight=0, offset_weight=0)
        )


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"frozen": ("stage8",)}, "stage8"),
        ({"stage_weights": (1, 1)}, "seven"),
        ({"score_weight": -1}, ">= 0"),
        ({"teacher_forcing_steps": -1}, "teacher_forcing_steps"),
        ({"batch_statistics_steps": -1}, "batch_statistics_steps"),
        ({"copied": ("stage1",)}, "copied"),
        ({"mapped_stages": (0,)}, r"mapped_stages must be in \[1, 7\]"),
        ({"teacher_tail": True, "frozen": ("head",)}, "must be frozen"),
    ],
)
def test_ranges(wrong, complaint):
    with pytest.raises(ValueError, match=complaint):
        DistillationConfig(**wrong)


@pytest.mark.parametrize(
    ("config", "unused"),
    [
        ({}, []),
        # without scores the heads are not run
        ({"score_weight": 0, "offset_weight": 0}, ["extras", "head"]),
        ({"score_weight": 0, "offset_weight": 0, "frozen": ("extras", "head")}, []),
        # nothing after the last weighted stage is run
        (
            {
                "stage_weights": (1, 1, 1, 1, 1, 0, 0),
                "tap_weight": 0,
                "score_weight": 0,
                "offset_weight": 0,
                "frozen": ("extras", "head"),
            },
            ["stage6", "stage7", "last"],
        ),
        # on the teacher's features a stage learns by its own term alone
        (
            {"teacher_forcing_steps": 1, "stage_weights": (1, 1, 1, 0, 1, 1, 1)},
            ["stem", "stage4", "extras", "head"],
        ),
    ],
)
def test_parts_without_a_gradient_are_known(pair, config, unused):
    config = DistillationConfig(**config)
    assert DistillationObjective(config).unused_parts() == unused
    teacher, student = pair
    forced = config.teacher_forcing_steps > 0
    objective, terms, _ = terms_of(student, teacher, config, forced=forced)
    objective.total(terms).backward()
    for name, modules in detector_parts(student).items():
        if name not in config.frozen and name != "stage4":
            has_gradient = all(p.grad is not None for m in modules for p in m.parameters())
            assert has_gradient == (name not in unused), name
