"""CUDA tensors without a GPU: computed on the CPU, checked as a GPU checks them.

Unlike PyTorch's fake tensors they have values, so that whole trainings run, with the same numbers
as on the CPU. Operations that mix devices fail as on a GPU, and so does NumPy.
"""

import contextlib
from unittest import mock

import pytest
import torch
from pytorch_lightning.accelerators import CPUAccelerator
from pytorch_lightning.strategies import SingleDeviceStrategy
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map, tree_map_only

CUDA = torch.device("cuda", 0)
# these take tensors of both devices: copies, and indices on the CPU
COPIES = {"_to_copy", "copy_"}
INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_"}


class CudaTensor(torch.Tensor):
    """A tensor that says it is on a GPU.

    To PyTorch's own code it is on ``meta``, which no operation takes for the CPU.

    Attributes:
        on_cpu: its values.
    """

    @staticmethod
    def __new__(cls, values):
        self = torch.Tensor._make_wrapper_subclass(
            cls,
            values.shape,
            strides=values.stride(),
            storage_offset=values.storage_offset(),
            dtype=values.dtype,
            device="meta",
        )
        self.on_cpu = values
        return self

    device = property(lambda self: CUDA)
    is_cuda = property(lambda self: True)
    is_cpu = is_meta = property(lambda self: False)

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})

    def __repr__(self, **_):
        return f"CudaTensor({self.on_cpu})"

    def __deepcopy__(self, memo):
        if id(self) not in memo:
            memo[id(self)] = self.detach().clone().requires_grad_(self.requires_grad)
        return memo[id(self)]

    def __reduce_ex__(self, protocol):
        return self.detach().on_cpu.__reduce_ex__(protocol)  # in files


@contextlib.contextmanager
def fake_cuda():
    """Inside, ``device="cuda"`` and ``.to("cuda")`` make `CudaTensor`."""
    before = torch._C._only_lift_cpu_tensors()
    torch._C._set_only_lift_cpu_tensors(True)
    try:
        with (
            mock.patch.object(torch.cuda, "_lazy_init", return_value=None),
            mock.patch.object(torch.cuda, "Event", mock.MagicMock()),
            _Dispatch(),
            _Functions(),
        ):
            yield
    finally:
        torch._C._set_only_lift_cpu_tensors(before)


GPUS = ["fake", pytest.param("real", marks=pytest.mark.gpu)]


@contextlib.contextmanager
def gpu(kind):
    """A GPU, one of `GPUS`; gives the options of a Lightning trainer on it."""
    if kind == "real":
        yield {"accelerator": "gpu", "devices": 1}
        return
    with fake_cuda():
        strategy = SingleDeviceStrategy(device=CUDA, accelerator=_Accelerator())
        yield {"accelerator": "auto", "strategy": strategy}


class _Accelerator(CPUAccelerator):
    def setup_device(self, device):
        pass


class _Dispatch(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})


class _Functions(TorchFunctionMode):
    """What never arrives at `_run`, or would look for a driver on its way."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        is_fake = bool(args) and isinstance(args[0], CudaTensor)
        if func is torch.Tensor.numpy and is_fake:
            raise TypeError("can't convert cuda:0 device type tensor to numpy")
        if func is torch.Tensor.tolist and is_fake:
            return args[0].detach().on_cpu.tolist()
        if func is torch.Tensor.new_tensor:
            like = {"dtype": args[0].dtype, "device": args[0].device}
            return torch.tensor(*args[1:], **(like | kwargs))
        if func is torch.Tensor.cuda:
            return args[0].to(CUDA)
        if func is torch.Tensor.to:
            args = tree_map(_with_index, args)
        if "device" in kwargs:
            kwargs = kwargs | {"device": _with_index(kwargs["device"])}
        return func(*args, **kwargs)


def _with_index(value):
    is_cuda = isinstance(value, (str, torch.device)) and str(value) == "cuda"
    return CUDA if is_cuda else value


def _run(func, args, kwargs):
    values = tree_flatten((args, kwargs))[0]
    tensors = [x for x in values if isinstance(x, torch.Tensor)]
    devices = [x for x in values if isinstance(x, torch.device)]
    name = func._schema.name.split("::")[1]
    if name == "_has_compatible_shallow_copy_type":  # `nn.Module.to` makes new parameters then
        return False
    _check(func, name, tensors)
    if kwargs.get("pin_memory"):
        kwargs = {**kwargs, "pin_memory": False}
    if devices:
        is_on_gpu = devices[0].type != "cpu"
    elif name in COPIES | INDEXING:
        is_on_gpu = isinstance(tensors[0], CudaTensor)
    else:
        is_on_gpu = any(isinstance(x, CudaTensor) for x in tensors)
    on_cpu, on_cpu_kwargs = tree_map(_on_cpu, (args, kwargs))
    found = func(*on_cpu, **on_cpu_kwargs)
    if not is_on_gpu:
        return found
    # what an operation in place returns is what it was given
    given = {id(x.on_cpu): x for x in tensors if isinstance(x, CudaTensor)}
    return tree_map_only(
        torch.Tensor, lambda x: given[id(x)] if id(x) in given else CudaTensor(x), found
    )


def _on_cpu(value):
    if isinstance(value, torch.device):
        return torch.device("cpu")
    return value.on_cpu if isinstance(value, CudaTensor) else value


def _check(func, name, tensors):
    on_gpu = [isinstance(x, CudaTensor) for x in tensors]
    if name in INDEXING and any(on_gpu) and not on_gpu[0]:
        raise RuntimeError(f"indices should be on cpu: {func}")
    # a single number on the CPU is no tensor to a GPU
    counted = [on or x.dim() > 0 for on, x in zip(on_gpu, tensors, strict=True)]
    on_cpu = [not on for on, counts in zip(on_gpu, counted, strict=True) if counts]
    if name not in COPIES | INDEXING and any(on_gpu) and any(on_cpu):
        raise RuntimeError(f"Expected all tensors to be on the same device: {func}")
