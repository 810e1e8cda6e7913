"""Depthwise convolutions whose gradients oneDNN computes slowly or wrongly on CPUs, replaced.

* **Strided, in bfloat16**: the gradient of the input takes many times as long as in float32
  (PyTorch 2.15, AVX-512 with bf16: 46 against 6 ms for 4x96x160x160, 18.6 against 0.2 ms for
  4x576x20x20); the four of a network take a quarter of a training step. It is computed here as
  convolutions without a stride, one for each row and column within a stride.
* **Maps with fewer rows than the kernel**, the last ones of a detector and of networks for CIFAR:
  padding inside the convolution takes many times as long as padding before it (PyTorch 2.14, one
  thread, forward and backward of 128x960x2x2: 59 against 2.1 ms in bfloat16, 12 against 5 in
  float32).
* **Both, in bfloat16**: on maps one cell wide, channels last, the weight's gradient contains
  uninitialised memory, NaN included, at taps that only meet padding (PyTorch 2.14, AVX-512);
  padding before the convolution avoids it.
* **Dilated**, those of segmenters: forward and backward take several times as long as without
  dilation (PyTorch 2.14, one thread, 4x960x22x30: 122 against 10 ms in bfloat16, 35 against 9 in
  float32). Of an input that is divided into the rows and columns that a kernel meets together, the
  convolution has no dilation.
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
    """A depthwise convolution without bias whose gradients are fast and correct on a CPU.

    On other devices it is ``nn.Conv2d``.
    """

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Convolves [B, C, H, W]."""
        x, weight = _autocast(x, weight)
        if not _trains_on_cpu(x):
            plain: Tensor = super()._conv_forward(x, weight, bias)
            return plain
        out: Tensor
        rows, columns = _pair(self.padding)
        pads = [columns, columns, rows, rows]
        if max(self.dilation) > 1:
            out = _dilated(x, weight, _pair(self.dilation))
            return out if bias is None else out + bias.to(out.dtype)[:, None, None]
        if max(self.stride) > 1 and x.dtype == torch.bfloat16:
            return _strided(x, weight, bias, _pair(self.stride), pads)
        if max(self.stride) == 1 and x.shape[2] < self.kernel_size[0]:
            return F.conv2d(F.pad(x, pads), weight, bias, groups=self.groups)
        out = super()._conv_forward(x, weight, bias)
        return out


class FastSameDepthwiseConv2d(SameConv2d):
    """`FastDepthwiseConv2d` with TensorFlow's SAME padding."""

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Convolves [B, C, H, W]."""
        x, weight = _autocast(x, weight)
        if not _trains_on_cpu(x) or x.dtype != torch.bfloat16:
            plain: Tensor = super()._conv_forward(x, weight, bias)
            return plain
        pads = same_padding(x, self.kernel_size, self.stride)
        return _strided(x, weight, bias, _pair(self.stride), pads)


_FAST: dict[type[nn.Conv2d], type[nn.Conv2d]] = {
    nn.Conv2d: FastDepthwiseConv2d,
    SameConv2d: FastSameDepthwiseConv2d,
}
_PLAIN = {fast: plain for plain, fast in _FAST.items()}


def replace_depthwise(module: nn.Module, *, fast: bool) -> None:
    """Replaces depthwise convolutions by fast ones, or restores PyTorch's own, in place.

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


def _strided(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: Pair, pads: list[int]
) -> Tensor:
    out: Tensor = _Strided.apply(x, weight, stride, pads)
    return out if bias is None else out + bias.to(out.dtype)[:, None, None]


def _trains_on_cpu(x: Tensor) -> bool:
    return x.device.type == "cpu" and torch.is_grad_enabled()


def _is_plain_depthwise(conv: nn.Conv2d) -> bool:
    is_depthwise = conv.groups == conv.in_channels == conv.out_channels > 1
    has_plain_padding = not isinstance(conv.padding, str) and conv.padding_mode == "zeros"
    is_plain = has_plain_padding and conv.bias is None
    if conv.dilation != (1, 1):  # of 3x3 kernels that keep the size
        keeps_size = conv.padding == conv.dilation and conv.stride == (1, 1)
        is_plain &= keeps_size and conv.kernel_size == (3, 3)
    return is_depthwise and is_plain


def _rebuilt(conv: nn.Conv2d, kind: type[nn.Conv2d]) -> nn.Conv2d:
    rebuilt = kind(
        conv.in_channels,
        conv.out_channels,
        _pair(conv.kernel_size),
        stride=_pair(conv.stride),
        padding=_pair(conv.padding),
        dilation=_pair(conv.dilation),
        groups=conv.groups,
        bias=False,
        device="meta",  # no random numbers are drawn
    )
    rebuilt.weight = conv.weight
    return rebuilt.train(conv.training)


def _pair(values: str | tuple[int, ...]) -> Pair:
    assert not isinstance(values, str)
    return values[0], values[1]


def _dilated(x: Tensor, weight: Tensor, dilation: Pair) -> Tensor:
    """A 3x3 depthwise convolution that keeps the size, for each phase of rows and columns.

    The phases are images of a batch. Where their sizes differ, a row or column of zeros is added:
    the padding of those that lack one.
    """
    batch, channels, height, width = x.shape
    rows, columns = dilation
    x = F.pad(x, (0, -width % columns, 0, -height % rows))
    down, across = x.shape[2] // rows, x.shape[3] // columns
    cells = x.permute(0, 2, 3, 1)  # channels last: each copy moves all channels of a cell
    cells = cells.reshape(batch, down, rows, across, columns, channels).permute(2, 4, 0, 1, 3, 5)
    phases = cells.reshape(-1, down, across, channels).permute(0, 3, 1, 2)
    padding = 1
    if down < weight.shape[2]:  # see above: few rows
        padding, phases = 0, F.pad(phases, (1, 1, 1, 1))
    out = F.conv2d(phases, weight, padding=padding, groups=channels).permute(0, 2, 3, 1)
    out = out.reshape(rows, columns, batch, down, across, channels).permute(2, 3, 0, 4, 1, 5)
    out = out.reshape(batch, down * rows, across * columns, channels)
    return out[:, :height, :width].permute(0, 3, 1, 2)


class _Strided(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: Pair, pads: list[int]) -> Tensor:  # noqa: ANN401
        left, right, top, bottom = pads
        ctx.stride, ctx.shape, ctx.corner = stride, x.shape, (top, left)
        is_small = min(x.shape[2:]) < max(weight.shape[2:])
        if (left, top) == (right, bottom) and not is_small:
            ctx.padding = (top, left)
        else:
            ctx.padding, x = (0, 0), F.pad(x, pads)
        ctx.save_for_backward(x, weight)
        return F.conv2d(x, weight, None, stride, ctx.padding, groups=len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:  # noqa: ANN401
        x, weight = ctx.saved_tensors
        to_x = to_weight = None
        if ctx.needs_input_grad[0]:
            to_x = _input_gradient(grad, weight, ctx.shape, ctx.stride, ctx.corner)
        if ctx.needs_input_grad[1]:
            only_weight = (False, True, False)
            geometry = (ctx.stride, ctx.padding, (1, 1), False, (0, 0), len(weight))
            to_weight = torch.ops.aten.convolution_backward(
                grad, x, weight, None, *geometry, only_weight
            )[1]
        return to_x, to_weight, None, None


def _input_gradient(
    grad: Tensor, weight: Tensor, shape: torch.Size, stride: Pair, padding: Pair
) -> Tensor:
    """The input's gradient: each of its stride-th rows and columns by one unstrided convolution.

    Input row ``q = r + s t`` meets kernel row ``a`` in output row ``(q + p - a) / s``, so of the
    kernel's rows only ``a0, a0 + s, ...`` with ``a0 = (r + p) mod s``.
    """
    out = torch.empty(shape, dtype=grad.dtype, memory_format=_memory_format(grad))
    for rows in range(stride[0]):
        for columns in range(stride[1]):
            target = out[:, :, rows :: stride[0], columns :: stride[1]]
            shift = (rows + padding[0], columns + padding[1])
            first = [shift[i] % stride[i] for i in (0, 1)]
            kernel = weight[:, :, first[0] :: stride[0], first[1] :: stride[1]].flip(2, 3)
            if 0 in (*target.shape, *kernel.shape):
                target.zero_()
                continue
            reach = (kernel.shape[2] - 1, kernel.shape[3] - 1)
            full = F.conv2d(grad, kernel, padding=reach, groups=len(weight))
            top, left = (shift[i] // stride[i] for i in (0, 1))
            phase = full[:, :, top : top + target.shape[2], left : left + target.shape[3]]
            # there is no gradient beyond the last position of the kernel
            missing = [target.shape[i] - phase.shape[i] for i in (3, 2)]
            target.copy_(F.pad(phase, (0, missing[0], 0, missing[1])) if any(missing) else phase)
    return out


def _memory_format(x: Tensor) -> torch.memory_format:
    is_channels_last = x.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if is_channels_last else torch.contiguous_format
