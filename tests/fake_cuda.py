"""CUDA tensors without a GPU: shapes, types and devices are checked, values do not exist."""

import contextlib
from unittest import mock

from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode


def _deepcopy(tensor, memo):
    # Tensor's own would copy a storage that does not exist
    if id(tensor) not in memo:
        memo[id(tensor)] = tensor.detach().clone().requires_grad_(tensor.requires_grad)
    return memo[id(tensor)]


@contextlib.contextmanager
def fake_cuda():
    """Inside, operations that mix devices fail as they do on a GPU.

    Build networks inside too, under ``torch.device("cuda")``. `nn.Module.to` does not work on them.
    """
    with (
        mock.patch.object(FakeTensor, "__deepcopy__", _deepcopy, create=True),
        FakeTensorMode(allow_non_fake_inputs=True),
    ):
        yield
