"""The criterion against torchvision and arithmetic by hand; its deliberate differences."""

import math
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from torch.nn import functional as F
from torchvision.models.detection import _utils as torchvision_utils
from torchvision.models.detection.ssd import SSD
from torchvision.ops import sigmoid_focal_loss

from igcv3det.config import AnchorConfig, LossConfig
from igcv3det.detection.anchors import generate_anchors
from igcv3det.detection.box_coder import BoxCoder
from igcv3det.detection.losses import MultiBoxLoss, focal_loss, hard_negatives
from igcv3det.detection.matcher import IGNORED, match, match_batch
from igcv3det.structures import HeadOutputs, Target

VARIANCES = (0.1, 0.1, 0.2, 0.2)
ANCHORS = generate_anchors(AnchorConfig(), 64, [(4, 4), (2, 2), (1, 1)])
A, K = len(ANCHORS), 5
# Two anchors far apart: what is matched can be seen.
PAIR = torch.tensor([[0.0, 0, 10, 10], [20, 20, 30, 30]])


def make_target(boxes=(), labels=(), crowds=()):
    return Target(
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        torch.tensor(labels, dtype=torch.int64),
        torch.tensor(crowds, dtype=torch.float32).reshape(-1, 4),
        0,
        (64, 64),
    )


def random_target(number):
    corners = torch.rand(number, 2) * 40
    boxes = torch.cat([corners, corners + 6 + torch.rand(number, 2) * 20], dim=1)
    return Target(boxes, torch.randint(1, K + 1, (number,)), torch.zeros(0, 4), 0, (64, 64))


def random_outputs(batch, anchors=A):
    return HeadOutputs(
        torch.randn(batch, anchors, K + 1, requires_grad=True),
        torch.randn(batch, anchors, 4, requires_grad=True),
    )


def criterion(activation="softmax", **config):
    return MultiBoxLoss(LossConfig(**config), activation, VARIANCES)


def torchvision_loss(outputs, anchors, targets, matched):
    ssd = SimpleNamespace(
        box_coder=torchvision_utils.BoxCoder((10.0, 10.0, 5.0, 5.0)), neg_to_pos_ratio=3
    )
    return SSD.compute_loss(
        ssd,
        [{"boxes": t.boxes, "labels": t.labels} for t in targets],
        {"bbox_regression": outputs.offsets, "cls_logits": outputs.logits},
        [anchors] * len(targets),
        list(matched),
    )


@pytest.mark.parametrize("numbers", [(3,), (0,), (1, 0, 6, 2), (0, 0)], ids=str)
def test_equals_torchvision_with_equal_matches(numbers):
    outputs, targets = random_outputs(len(numbers)), [random_target(n) for n in numbers]
    matched = match_batch(ANCHORS, [t.boxes for t in targets], 0.5)
    ours = criterion(min_negatives=0)(outputs, ANCHORS, targets)
    theirs = torchvision_loss(outputs, ANCHORS, targets, matched)
    torch.testing.assert_close(ours["classification"], theirs["classification"])
    torch.testing.assert_close(ours["box"], theirs["bbox_regression"])

    leaves = list(outputs)
    our_gradients = torch.autograd.grad(sum(ours.values()), leaves)
    their_gradients = torch.autograd.grad(sum(theirs.values()), leaves)
    torch.testing.assert_close(our_gradients, their_gradients)


def test_softmax_by_hand():
    # One object on the first of two anchors, all logits 0: -log(1/2) for each, over one positive.
    outputs = HeadOutputs(torch.zeros(1, 2, 2), torch.zeros(1, 2, 4))
    losses = criterion()(outputs, PAIR, [make_target([[0, 0, 10, 10]], [1])])
    assert losses["classification"].item() == pytest.approx(2 * math.log(2))
    assert losses["box"].item() == 0


def test_sigmoid_by_hand():
    # Both anchors: binary cross-entropy of three columns, one of them a one: background counts.
    logits = torch.tensor([[[0.0, 1.0, 2.0], [3.0, 0.0, -1.0]]])
    losses = criterion("sigmoid")(
        HeadOutputs(logits, torch.zeros(1, 2, 4)), PAIR, [make_target([[0, 0, 10, 10]], [2])]
    )

    def zero(x):
        return math.log(1 + math.exp(x))

    expected = zero(0) + zero(1) + zero(-2) + zero(-3) + zero(0) + zero(-1)
    assert losses["classification"].item() == pytest.approx(expected)


def test_box_by_hand():
    # The box is 5 px to the right of its anchor of 10: dx = 0.5 / 0.1 = 5, smooth L1 5 - 0.5.
    anchors = PAIR[:1]
    outputs = HeadOutputs(torch.zeros(1, 1, 2), torch.tensor([[[0.0, 0.5, 0.0, 0.0]]]))
    target = make_target([[5, 0, 15, 10]], [1])
    losses = criterion(box_weight=2.0)(outputs, anchors, [target])
    assert losses["box"].item() == pytest.approx(2 * (4.5 + 0.5 * 0.5**2))


def test_label_smoothing_is_that_of_torch():
    outputs, target = random_outputs(1), random_target(3)
    labels = torch.zeros(A, dtype=torch.int64)
    matched = match(ANCHORS, target.boxes, 0.5)
    labels[matched >= 0] = target.labels[matched[matched >= 0]]
    loss = F.cross_entropy(outputs.logits[0], labels, reduction="none", label_smoothing=0.1)
    positives = int((labels > 0).sum())
    hardest = loss[labels == 0].sort(descending=True).values[: 3 * positives]
    ours = criterion(label_smoothing=0.1)(outputs, ANCHORS, [target])["classification"]
    torch.testing.assert_close(ours, (loss[labels > 0].sum() + hardest.sum()) / positives)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("min_negatives", [0, 3, 1000])
def test_an_image_without_objects_gives_its_hardest_negatives(activation, min_negatives):
    outputs = random_outputs(1)
    losses = criterion(activation, min_negatives=min_negatives)(outputs, ANCHORS, [make_target()])
    sum(losses.values()).backward()
    taught = (outputs.logits.grad != 0).any(dim=-1).sum()
    assert taught == min(min_negatives, A)
    assert losses["box"].item() == 0
    if min_negatives == 0:
        assert losses["classification"].item() == 0


def test_torchvision_has_no_loss_for_an_image_without_objects():
    outputs, target = random_outputs(1), make_target()
    nothing = torch.full((1, A), -1)
    assert torchvision_loss(outputs, ANCHORS, [target], nothing)["classification"].item() == 0


@pytest.mark.parametrize(
    ("activation", "config"),
    [
        ("softmax", {}),
        ("softmax", {"label_smoothing": 0.1}),
        ("sigmoid", {}),
        ("sigmoid", {"classification": "focal"}),
    ],
    ids=["softmax", "smoothed", "sigmoid", "focal"],
)
class TestEveryClassificationLoss:
    @pytest.mark.parametrize("numbers", [(0,), (1,), (0, 4, 1)], ids=str)
    def test_backward(self, activation, config, numbers):
        outputs = random_outputs(len(numbers))
        targets = [random_target(n) for n in numbers]
        losses = criterion(activation, **config)(outputs, ANCHORS, targets)
        assert set(losses) == {"classification", "box"}
        assert all(loss.shape == () and loss >= 0 for loss in losses.values())
        sum(losses.values()).backward()
        assert all(leaf.grad.isfinite().all() for leaf in outputs)

    def test_ignored_anchors_have_no_gradient(self, activation, config):
        outputs = random_outputs(1)
        target = make_target([[2, 2, 18, 18]], [1], crowds=[[24, 0, 64, 64]])
        matched = match(ANCHORS, target.boxes, 0.5, target.crowds)
        config = {**config, "negatives_per_positive": 1e3}
        losses = criterion(activation, **config)(outputs, ANCHORS, [target])
        sum(losses.values()).backward()
        taught = (outputs.logits.grad[0] != 0).any(dim=-1)
        assert torch.equal(taught, matched != IGNORED)
        assert 10 < (matched == IGNORED).sum() < A

    def test_order_of_images_and_boxes_does_not_matter(self, activation, config):
        outputs, targets = random_outputs(2), [random_target(4), random_target(2)]
        loss = criterion(activation, **config)
        turned = HeadOutputs(*(leaf.flip(0) for leaf in outputs))
        others = [t._replace(boxes=t.boxes.flip(0), labels=t.labels.flip(0)) for t in targets[::-1]]
        torch.testing.assert_close(
            loss(outputs, ANCHORS, targets), loss(turned, ANCHORS, others), rtol=1e-5, atol=1e-5
        )

    def test_float32_under_autocast_and_from_half(self, activation, config):
        outputs, target = random_outputs(1), random_target(3)
        half = HeadOutputs(*(leaf.detach().bfloat16() for leaf in outputs))
        rounded = HeadOutputs(*(leaf.float() for leaf in half))
        loss = criterion(activation, **config)
        with torch.autocast("cpu", torch.bfloat16):
            losses = loss(half, ANCHORS, [target])
        assert all(value.dtype == torch.float32 for value in losses.values())
        torch.testing.assert_close(losses, loss(rounded, ANCHORS, [target]))

    def test_descends(self, activation, config):
        outputs, target = random_outputs(1), random_target(3)
        loss = criterion(activation, **config)
        optimizer = torch.optim.SGD(outputs, lr=1.0)
        first = sum(loss(outputs, ANCHORS, [target]).values())
        for _ in range(30):
            optimizer.zero_grad()
            last = sum(loss(outputs, ANCHORS, [target]).values())
            last.backward()
            optimizer.step()
        assert last < 0.5 * first

    def test_logit_of_nan_shows_in_the_loss(self, activation, config):
        outputs, target = random_outputs(1), random_target(3)
        background = torch.nonzero(match(ANCHORS, target.boxes, 0.5) < 0)[0, 0]
        with torch.no_grad():
            outputs.logits[0, background] = math.nan
        assert criterion(activation, **config)(outputs, ANCHORS, [target])["classification"].isnan()


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (0.0, []),
        (1.0, [3]),
        (1.5, [1, 3]),
        (3.0, [0, 1, 3]),
        (9.0, [0, 1, 3]),
    ],
)
def test_hard_negatives_are_the_hardest_candidates(wanted, expected):
    loss = torch.tensor([[1.0, 2.0, 9.0, 3.0]])
    is_candidate = torch.tensor([[True, True, False, True]])
    chosen = hard_negatives(loss, is_candidate, torch.tensor([wanted]))
    assert torch.nonzero(chosen[0])[:, 0].tolist() == expected


def test_hard_negatives_count_image_by_image():
    chosen = hard_negatives(
        torch.rand(3, 10), torch.ones(3, 10, dtype=torch.bool), torch.tensor([0, 7, 2])
    )
    assert chosen.sum(dim=1).tolist() == [0, 7, 2]


@pytest.mark.parametrize("gamma", [0.0, 1.5, 2.0])
@pytest.mark.parametrize("alpha", [0.25, 0.75])
def test_focal_loss_equals_torchvision(alpha, gamma):
    logits = (torch.randn(2, 30, K + 1) * 4).requires_grad_()
    labels = torch.randint(0, K + 1, (2, 30))
    is_ignored = (torch.rand(2, 30) < 0.2) & (labels == 0)
    one_hot = F.one_hot(labels, K + 1).float()
    one_hot[..., 0] = 0  # encode_background_as_zeros
    theirs = sigmoid_focal_loss(logits, one_hot, alpha, gamma)[~is_ignored].sum()
    ours = focal_loss(logits, labels, is_ignored, alpha, gamma)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        torch.autograd.grad(ours, logits), torch.autograd.grad(theirs, logits), rtol=1e-4, atol=1e-5
    )


def test_focal_loss_of_extreme_logits_is_finite():
    logits = torch.tensor([[[200.0, -200.0], [-200.0, 200.0]]], requires_grad=True)
    loss = focal_loss(logits, torch.tensor([[0, 1]]), torch.zeros(1, 2, dtype=torch.bool), 0.5, 2.0)
    loss.backward()
    assert loss.isfinite()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("scale", [2.0**16, 2.0**19])  # of a GradScaler
def test_focal_gradients_of_half_logits_are_rounded_once(dtype, scale):
    """As autograd's of the loss in float32; the slope itself is below float16's least number."""
    logits = torch.tensor([[[-4.6, -5.5, -6.0, -6.5, 1.0]]]).to(dtype).requires_grad_()
    background, none = torch.zeros(1, 1, dtype=torch.int64), torch.zeros(1, 1, dtype=torch.bool)
    (focal_loss(logits, background, none, 0.75, 2.0) * scale / 64).backward()
    other = logits.detach().clone().requires_grad_()
    wide = other.float()
    (0.25 * (wide.sigmoid() ** 2 * F.softplus(wide)).sum() * scale / 64).backward()
    assert logits.grad.dtype == dtype
    rounding = 4 * torch.finfo(dtype).eps
    torch.testing.assert_close(logits.grad, other.grad, rtol=rounding, atol=0)
    assert (logits.grad != 0).all()


def test_a_gradient_above_float16_reaches_half_logits():
    logits = torch.full((1, 2, 3), -4.6, dtype=torch.float16, requires_grad=True)
    background, none = torch.zeros(1, 2, dtype=torch.int64), torch.zeros(1, 2, dtype=torch.bool)
    (focal_loss(logits, background, none, 0.75, 2.0) * 2**19).backward()
    p = 1 / (1 + math.exp(4.6))
    slope = p**2 * (2 * (1 - p) * -math.log(1 - p) + p)
    expected = torch.full_like(logits, 0.25 * 2**19 * slope)
    torch.testing.assert_close(logits.grad, expected, rtol=0.01, atol=0)


def test_focal_needs_sigmoid():
    with pytest.raises(ValueError, match=r"set detector\.head\.activation to sigmoid"):
        criterion("softmax", classification="focal")


def test_boxes_without_area_do_not_break_the_loss():
    outputs = random_outputs(1)
    target = make_target([[5, 5, 5, 9], [8, 8, 24, 24]], [1, 2])
    losses = criterion()(outputs, ANCHORS, [target])
    assert all(loss.isfinite() for loss in losses.values())


def test_perfect_outputs_have_zero_loss():
    target = random_target(3)
    matched = match(ANCHORS, target.boxes, 0.5)
    labels = torch.where(matched >= 0, target.labels[matched.clamp(min=0)], 0)
    logits = F.one_hot(labels, K + 1)[None] * 60.0 - 30.0
    offsets = BoxCoder(VARIANCES).encode(target.boxes[matched.clamp(min=0)], ANCHORS)[None]
    losses = criterion()(HeadOutputs(logits, offsets), ANCHORS, [target])
    torch.testing.assert_close(sum(losses.values()), torch.tensor(0.0))


def test_divisor_is_averaged_over_processes(monkeypatch):
    outputs, targets = random_outputs(1), [random_target(4)]
    alone = criterion()(outputs, ANCHORS, targets)
    # The other process of two has no positives: half as many on average, twice the loss.
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(dist, "all_reduce", lambda count: None)
    shared = criterion()(outputs, ANCHORS, targets)
    torch.testing.assert_close(shared, {name: 2 * loss for name, loss in alone.items()})


def test_divisor_is_each_process_own_in_evaluation(monkeypatch):
    def must_not_wait(count):
        raise AssertionError("processes may have different numbers of batches")

    outputs, targets = random_outputs(1), [random_target(4)]
    alone = criterion()(outputs, ANCHORS, targets)
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "all_reduce", must_not_wait)
    torch.testing.assert_close(criterion().eval()(outputs, ANCHORS, targets), alone)


def test_group_of_one_process_changes_nothing():
    outputs, targets = random_outputs(1), [random_target(4)]
    alone = criterion()(outputs, ANCHORS, targets)
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        torch.testing.assert_close(criterion()(outputs, ANCHORS, targets), alone)
    finally:
        dist.destroy_process_group()
