import pytest
import torch
from torch import nn
from torch.testing import assert_close

from igcv3det.config import OptimConfig
from igcv3det.engine.muon import Muon, orthogonalised
from igcv3det.engine.optim import build_optimizer
from igcv3det.models.igcv3 import igcv3_d


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 4, 16), (2, 16, 4)])
def test_singular_vectors_stay_and_values_come_near_one(shape):
    matrices = torch.randn(shape)
    left, _, right = torch.linalg.svd(matrices, full_matrices=False)
    found = left.mT @ orthogonalised(matrices) @ right.mT
    values = found.diagonal(dim1=1, dim2=2)
    assert_close(found, torch.diag_embed(values), rtol=0, atol=1e-4)  # no other direction
    assert ((values > 0.3) & (values < 1.3)).all()


def step_of(parameters, matrices, grads, steps=1, **options):
    optimizer = Muon(
        [{"params": parameters, "matrices": matrices, "lr": 0.1, "weight_decay": 0.0}], **options
    )
    for _ in range(steps):
        for parameter, grad in zip(parameters, grads, strict=True):
            parameter.grad = grad.clone()
        optimizer.step()


def test_one_group_is_pytorchs_muon():
    weight, grad = torch.randn(6, 4), torch.randn(6, 4)
    ours = nn.Parameter(weight.clone().reshape(6, 4, 1, 1))
    step_of([ours], [1], [grad.reshape(6, 4, 1, 1)], steps=3)
    theirs = nn.Parameter(weight.clone())
    oracle = torch.optim.Muon([theirs], lr=0.1, weight_decay=0.0)
    for _ in range(3):
        theirs.grad = grad.clone()
        oracle.step()
    # PyTorch iterates in bfloat16
    assert_close(ours.flatten(1), theirs, rtol=0, atol=0.02)


def test_groups_are_matrices_of_their_own():
    weight, grad = torch.randn(8, 3, 1, 1), torch.randn(8, 3, 1, 1)
    whole = nn.Parameter(weight.clone())
    step_of([whole], [2], [grad])
    halves = [nn.Parameter(half.clone()) for half in weight.chunk(2)]
    step_of(halves, [1, 1], list(grad.chunk(2)))
    assert_close(whole, torch.cat(halves))


def test_everything_else_is_pytorchs_adamw():
    weight, grads = torch.randn(5), torch.randn(4, 5)
    ours, theirs = nn.Parameter(weight.clone()), nn.Parameter(weight.clone())
    optimizer = Muon([{"params": [ours], "lr": 0.05, "weight_decay": 0.1}])
    oracle = torch.optim.AdamW([theirs], lr=0.05, weight_decay=0.1)
    for grad in grads:
        ours.grad, theirs.grad = grad.clone(), grad.clone()
        optimizer.step()
        oracle.step()
    assert_close(ours, theirs)


def test_each_parameter_has_a_step_count_of_its_own():
    """The bias of means and squares is corrected by the gradients that a parameter had."""
    ours = [nn.Parameter(torch.zeros(3)) for _ in range(3)]
    theirs = [nn.Parameter(torch.zeros(3)) for _ in range(3)]
    optimizer = Muon([{"params": ours, "lr": 0.01, "weight_decay": 0.1}])
    oracle = torch.optim.AdamW(theirs, lr=0.01, weight_decay=0.1)
    for step, grad in enumerate(torch.randn(40, 3)):
        has_gradient = (True, step >= 30, step % 3 == 0)
        for own, other, given in zip(ours, theirs, has_gradient, strict=True):
            own.grad, other.grad = (grad.clone(), grad.clone()) if given else (None, None)
        optimizer.step()
        oracle.step()
    for own, other in zip(ours, theirs, strict=True):
        assert_close(own, other)


def test_it_is_built_for_the_pointwise_weights_of_a_network():
    network = igcv3_d(10, width=0.25, cifar=True)
    network.blocks[0].requires_grad_(False)
    config = OptimConfig(optimizer="muon", muon_lr=0.03, lr_batch_size=None)
    groups = {g["name"]: g for g in build_optimizer(network, config, lr=0.001).param_groups}
    pointwise = [m for m in network.modules() if isinstance(m, nn.Conv2d) and m.kernel_size[0] == 1]
    own = [conv for conv in pointwise if conv.weight.requires_grad]
    assert len(own) == len(pointwise) - 2
    assert [id(p) for p in groups["matrices"]["params"]] == [id(conv.weight) for conv in own]
    assert groups["matrices"]["matrices"] == [conv.groups for conv in own]
    assert groups["matrices"]["lr"] == 0.03
    assert groups["decay"]["lr"] == 0.001
    trainable = [p for p in network.parameters() if p.requires_grad]
    assert sum(len(group["params"]) for group in groups.values()) == len(trainable)


def test_its_state_continues():
    def trained(steps, state=None, weights=None):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Conv2d(4, 6, 1, groups=2), nn.BatchNorm2d(6))
        optimizer = build_optimizer(network, OptimConfig(optimizer="muon"), lr=0.01)
        if state is not None:
            network.load_state_dict(weights)
            optimizer.load_state_dict(state)
        for step in steps:
            torch.manual_seed(step)
            optimizer.zero_grad()
            network(torch.randn(3, 4, 5, 5)).square().sum().backward()
            optimizer.step()
        return network.state_dict(), optimizer.state_dict()

    weights, state = trained(range(2))
    resumed, _ = trained(range(2, 4), state, weights)
    unbroken, _ = trained(range(4))
    for name, value in unbroken.items():
        assert torch.equal(resumed[name], value), name
