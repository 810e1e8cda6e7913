"""Depthwise convolutions that train fast on a CPU: two gradients that oneDNN computes slowly.

* **Strided, in bfloat16**: the gradient of the input takes many times as long as in float32
  (PyTorch 2.15, AVX-512 with bf16: 46 against 6 ms for 4x96x160x160, 18.6 against 0.2 ms for
  4x576x20x20); the four of a network cost a quarter of a training step. Computed in float32 and
  rounded to bfloat16 it is the same gradient.
* **Maps of fewer rows than the kernel has**, the last ones of CIFAR's networks and of a detector:
  padded by the convolution they take many times as long as padded before it (PyTorch 2.14, one
  thread, forward and backward of 128x960x2x2: 59 against 2.1 ms in bfloat16, 12 against 5 in
  float32).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from igcv3det.models.layers import SameConv2d, same_padding

Pair = tuple[int, int]


class FastDepthwiseConv2d(nn.Conv2d):
    """A depthwise convolution without bias whose gradients take no slow path on a CPU.

    On other devices it is ``nn.Conv2d``.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Convolves [B, C, H, W]."""
        x, weight = _autocast(x, self.weight)
        is_learning = x.device.type == "cpu" and torch.is_grad_enabled()
        if max(self.stride) > 1 and is_learning and x.dtype == torch.bfloat16:
            strided: Tensor = _Strided.apply(x, weight, self.stride, self.padding)
            return strided
        if max(self.stride) == 1 and is_learning and x.shape[2] < self.kernel_size[0]:
            rows, columns = _pair(self.padding)
            padded = F.pad(x, (columns, columns, rows, rows))
            return F.conv2d(padded, weight, groups=self.groups)
        return super().forward(x)


class FastSameDepthwiseConv2d(SameConv2d):
    """The same for a convolution padded as TensorFlow's SAME."""

    def forward(self, x: Tensor) -> Tensor:
        """Convolves [B, C, H, W]."""
        x, weight = _autocast(x, self.weight)
        if x.device.type != "cpu" or x.dtype != torch.bfloat16:
            return super().forward(x)
        padded = F.pad(x, same_padding(x, self.kernel_size, self.stride))
        out: Tensor = _Strided.apply(padded, weight, self.stride, (0, 0))
        return out


_FAST: dict[type[nn.Conv2d], type[nn.Conv2d]] = {
    nn.Conv2d: FastDepthwiseConv2d,
    SameConv2d: FastSameDepthwiseConv2d,
}
_PLAIN = {fast: plain for plain, fast in _FAST.items()}


def replace_depthwise(module: nn.Module, *, fast: bool) -> None:
    """Makes depthwise convolutions fast to train on a CPU, or plain again, in place.

    Parameters are shared, under their names.
    """
    replacements = _FAST if fast else _PLAIN
    for parent in list(module.modules()):
        for name, conv in list(parent.named_children()):
            # exactly these classes: another subclass may pad otherwise
            new = replacements.get(type(conv))  # type: ignore[arg-type]
            if new is not None and isinstance(conv, nn.Conv2d) and _is_plain_depthwise(conv):
                setattr(parent, name, _rebuilt(conv, new))


def _autocast(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    if x.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
        dtype = torch.get_autocast_dtype("cpu")
        return x.to(dtype), weight.to(dtype)
    return x, weight


def _is_plain_depthwise(conv: nn.Conv2d) -> bool:
    is_depthwise = conv.groups == conv.in_channels == conv.out_channels > 1
    has_plain_padding = not isinstance(conv.padding, str) and conv.padding_mode == "zeros"
    is_plain = has_plain_padding and conv.bias is None and conv.dilation == (1, 1)
    return is_depthwise and is_plain


def _rebuilt(conv: nn.Conv2d, kind: type[nn.Conv2d]) -> nn.Conv2d:
    rebuilt = kind(
        conv.in_channels,
        conv.out_channels,
        _pair(conv.kernel_size),
        stride=_pair(conv.stride),
        padding=_pair(conv.padding),
        groups=conv.groups,
        bias=False,
        device="meta",  # no random numbers are drawn
    )
    rebuilt.weight = conv.weight
    return rebuilt.train(conv.training)


def _pair(values: str | tuple[int, ...]) -> Pair:
    assert not isinstance(values, str)
    return values[0], values[1]


class _Strided(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: Pair, padding: Pair) -> Tensor:  # noqa: ANN401
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv2d(x, weight, None, stride, padding, groups=len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:  # noqa: ANN401
        x, weight = ctx.saved_tensors
        stride, padding = ctx.stride, ctx.padding
        to_x = to_weight = None
        if ctx.needs_input_grad[0]:
            # rows and columns at the end of x that no position of the kernel starts at
            left = [
                x.shape[2 + i]
                - (grad.shape[2 + i] - 1) * stride[i]
                - weight.shape[2 + i]
                + 2 * padding[i]
                for i in (0, 1)
            ]
            with torch.autocast("cpu", enabled=False):  # a caller's would round to bfloat16
                to_x = F.conv_transpose2d(
                    grad.float(), weight.float(), None, stride, padding, left, len(weight)
                ).to(x.dtype)
        if ctx.needs_input_grad[1]:
            only_weight = (False, True, False)
            geometry = (stride, padding, (1, 1), False, (0, 0), len(weight))
            to_weight = torch.ops.aten.convolution_backward(
                grad, x, weight, None, *geometry, only_weight
            )[1]
        return to_x, to_weight, None, None
