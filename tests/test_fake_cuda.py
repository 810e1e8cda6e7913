"""Fake CUDA tensors fail where a GPU's fail."""

import io

import pytest
import torch
from fake_cuda import CUDA, fake_cuda
from torch import nn


def test_mixing_devices_fails():
    here = torch.arange(3.0)
    with fake_cuda():
        there = here.to("cuda")
        assert there.device == CUDA
        for mix in (
            lambda: here + there,
            lambda: torch.cat([there, here]),
            lambda: there.addcmul_(here, here),
            lambda: here[there > 1],
            lambda: nn.Linear(3, 1)(there),
            lambda: torch.where(there > 1, there, here),
        ):
            with pytest.raises(RuntimeError, match=r"device|cpu"):
                mix()
        with pytest.raises(TypeError, match="cuda"):
            there.numpy()
        assert there[torch.tensor([0, 2])].tolist() == [0, 2]  # indices may be on the CPU
        assert (there * torch.tensor(2.0)).tolist() == [0, 2, 4]  # and single numbers
        assert (there.cpu() + here).tolist() == [0, 2, 4]


def test_values_gradients_and_files_are_those_of_the_cpu():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 2))
    images = torch.rand(2, 3, 8, 8)
    with fake_cuda():
        moved = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten())
        moved.append(nn.Linear(144, 2)).cuda()
        moved.load_state_dict(network.state_dict())
        loss = moved(images.cuda()).square().mean()
        loss.backward()
        found = [parameter.grad.cpu() for parameter in moved.parameters()]
        torch.save(moved.state_dict(), file := io.BytesIO())
        value = loss.item()
    expected = network(images).square().mean()
    expected.backward()
    assert value == expected.item()
    torch.testing.assert_close(found, [p.grad for p in network.parameters()], rtol=0, atol=0)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    torch.testing.assert_close(saved, dict(network.state_dict()), rtol=0, atol=0)
