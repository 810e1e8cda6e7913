"""A module as an ONNX graph."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from igcv3det.export.graphs import OPSET

if TYPE_CHECKING:
    import onnx


def trace_onnx(
    module: nn.Module, inputs: dict[str, Tensor], outputs: tuple[str, ...]
) -> onnx.ModelProto:
    """A module as an ONNX model; the batch is dynamic if all inputs have more than one row."""
    is_dynamic = all(len(value) > 1 for value in inputs.values())
    batch = torch.export.Dim("batch")
    shapes = tuple({0: batch} for _ in inputs) if is_dynamic else None
    with quiet("onnxscript", "onnx_ir"), warnings.catch_warnings():
        # It warns that two inputs share one name for their batch, which is intended
        warnings.filterwarnings("ignore", message="# The axis name: batch", category=UserWarning)
        program = torch.onnx.export(
            module.eval(),
            tuple(inputs.values()),
            dynamo=True,
            opset_version=OPSET,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_shapes=shapes,
            verbose=False,
        )
    assert program is not None
    model: onnx.ModelProto = program.model_proto
    return model


@contextlib.contextmanager
def quiet(*names: str, level: int = logging.WARNING) -> Iterator[None]:
    """Limits loggers to a level: exporters and quantisers log every node that they change."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(level)
    try:
        yield
    finally:
        for logger, before in zip(loggers, levels, strict=True):
            logger.setLevel(before)


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """Keeps what converters print, their progress bars and their warnings off the terminal."""
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        yield
