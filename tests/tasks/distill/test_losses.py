import math

import pytest
import torch
from torch.testing import assert_close

from igcv3det.structures import HeadOutputs
from igcv3det.tasks.distill.losses import offset_error, unexplained_variance
from igcv3det.tasks.divergence import logits_divergence


def test_a_copy_leaves_no_variance_unexplained():
    maps = torch.randn(2, 3, 4, 4)
    assert_close(unexplained_variance(maps, maps), torch.tensor(0.0))


def test_the_means_alone_leave_all_variance():
    maps = torch.randn(4, 3, 8, 8) * torch.tensor([1.0, 2.0, 3.0]).reshape(1, 3, 1, 1)
    means = maps.mean(dim=(0, 2, 3), keepdim=True).expand_as(maps)
    assert_close(unexplained_variance(means, maps), torch.tensor(1.0))


def test_channels_have_equal_weight_at_any_scale():
    teacher = torch.tensor([[0.0, 2.0], [0.0, 200.0]]).reshape(1, 2, 1, 2)
    student = teacher + torch.tensor([1.0, 0.0]).reshape(1, 2, 1, 1)
    # variances 1 and 10000, mean 5000.5; the first is raised to 5 % of that
    assert_close(unexplained_variance(student, teacher), torch.tensor(0.5 / (0.05 * 5000.5)))


def test_a_constant_teacher_gives_a_finite_loss():
    constant = torch.ones(1, 1, 2, 2)
    assert unexplained_variance(constant, constant) == 0


def outputs(logits, offsets=None):
    logits = torch.tensor(logits)
    if offsets is None:
        offsets = torch.zeros(*logits.shape[:2], 4)
    return HeadOutputs(logits, offsets)


def test_score_divergence_by_hand():
    # one image, two anchors, background column and one class; p = 1/2 and 3/4 against q = 3/4, 3/4
    teacher = outputs([[[9.0, 0.0], [9.0, math.log(3.0)]]])
    student = outputs([[[-9.0, math.log(3.0)], [0.0, math.log(3.0)]]])
    p, q = 0.5, 0.75
    by_hand = p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))
    divergence = logits_divergence(student.logits, teacher.logits, "sigmoid")
    assert_close(divergence, torch.tensor([by_hand]))


def test_offsets_weigh_by_the_teachers_best_score():
    # anchors sure by 1/2 and 1/4; errors of smooth L1: 4 * 0.5 = 2 and 4 * (2 - 0.5) = 6
    logits = [[[0.0, 0.0, -9.0], [0.0, -9.0, math.log(1 / 3)]]]
    teacher = outputs(logits)
    student = outputs(logits, torch.tensor([[[1.0] * 4, [-2.0] * 4]]))
    expected = torch.tensor((0.5 * 2 + 0.25 * 6) / 0.75)
    assert_close(offset_error(student, teacher, "sigmoid"), expected)


def test_offsets_weigh_by_the_teachers_best_share_of_a_softmax():
    # background and one class: shares 3/4 and 1/2 of the class; errors as above
    logits = [[[0.0, math.log(3.0)], [5.0, 5.0]]]
    teacher = outputs(logits)
    student = outputs(logits, torch.tensor([[[1.0] * 4, [-2.0] * 4]]))
    expected = torch.tensor((0.75 * 2 + 0.5 * 6) / 1.25)
    assert_close(offset_error(student, teacher, "softmax"), expected)


def _scores(student, teacher, activation):
    return logits_divergence(student.logits, teacher.logits, activation).mean()


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
@pytest.mark.parametrize("loss", [_scores, offset_error])
def test_gradients_reach_the_student_in_bfloat16(loss, activation):
    logits = torch.randn(1, 5, 4, dtype=torch.bfloat16, requires_grad=True)
    offsets = torch.randn(1, 5, 4, dtype=torch.bfloat16, requires_grad=True)
    teacher = HeadOutputs(torch.randn(1, 5, 4), torch.randn(1, 5, 4))
    value = loss(HeadOutputs(logits, offsets), teacher, activation)
    assert value.dtype == torch.float32
    value.backward()
    grads = [g for g in (logits.grad, offsets.grad) if g is not None]
    assert any(grad.abs().sum() > 0 for grad in grads)
