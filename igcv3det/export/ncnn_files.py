"""Detectors as ncnn's text ``.param`` with its ``.bin``, converted by pnnx.

The description follows the layers in the ``.param``, where ncnn does not read
(`igcv3det.runtime.ncnn_session`).
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from igcv3det.atomic_files import replacing
from igcv3det.export.job import ExportJob
from igcv3det.export.network import NetworkAndDecoding, description_of
from igcv3det.runtime.export_spec import CANDIDATE_OUTPUTS, INPUT
from igcv3det.runtime.ncnn_session import MARK
from igcv3det.runtime.session import WEIGHTS, import_extra

PACKAGES: tuple[str, ...] = ("pnnx", "ncnn")
_HEADER = 2  # lines before the layers
_NAMES = {"in0": INPUT, **{f"out{i}": name for i, name in enumerate(CANDIDATE_OUTPUTS)}}


def write(job: ExportJob) -> None:
    """Writes both files; see `igcv3det.export.job.Writer`."""
    model = NetworkAndDecoding(job.detector, job.variant or "ncnn")
    layers, content = convert(model, model.example(), job.path, job.spec.precision)
    checksum = hashlib.sha256(content).hexdigest()
    description = {**description_of(job.detector, job.spec), WEIGHTS: checksum}
    text = "\n".join([*layers, MARK + json.dumps(description), ""])
    with replacing(job.path.with_suffix(".bin")) as weights, replacing(job.path) as graph:
        weights.write_bytes(content)
        graph.write_text(text, encoding="utf-8")


def convert(
    model: nn.Module, example: torch.Tensor, path: Path, precision: str = "fp32"
) -> tuple[list[str], bytes]:
    """A module as lines of a ``.param``, with `INPUT` as its input, and content of a ``.bin``.

    Args:
        model: of one input; its first outputs get the names of a detector's.
        example: [1, C, H, W], the only shape that the result takes.
        path: for messages.
        precision: of the weights, "fp32" or "fp16".

    Raises:
        ImportError: pnnx is not installed.
        ValueError: a layer that pnnx or ncnn does not have.
    """
    with tempfile.TemporaryDirectory() as folder:
        converted = _run_pnnx(model, example, Path(folder), path, precision)
        layers = converted.read_text(encoding="utf-8").splitlines()
        content = converted.with_suffix(".bin").read_bytes()
    layers[_HEADER:] = [_renamed(line, example.shape) for line in layers[_HEADER:]]
    _refuse_unknown(layers[_HEADER:], path)
    return layers, content


def _run_pnnx(
    model: nn.Module, example: torch.Tensor, folder: Path, path: Path, precision: str
) -> Path:
    """Runs pnnx, which is a program; returns the ``.param`` that it wrote."""
    with warnings.catch_warnings():
        # pnnx reads TorchScript, which PyTorch calls deprecated, and a shape in Python is fixed
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(model, example, check_trace=False)  # type: ignore[no-untyped-call]
        traced.save(str(folder / "model.pt"))
    shape = ",".join(str(side) for side in example.shape)
    options = [f"inputshape=[{shape}]f32", f"fp16={int(precision == 'fp16')}"]
    program = import_extra("pnnx", path, "ncnn").EXEC_PATH
    run = subprocess.run(
        [program, "model.pt", *options], cwd=folder, capture_output=True, text=True, check=False
    )
    written = folder / "model.ncnn.param"
    if run.returncode or not written.exists():
        lines = (run.stderr.strip() or run.stdout.strip() or "no message").splitlines()
        raise ValueError(f"{path}: pnnx cannot convert it: {lines[-1]}")
    return written


def _renamed(line: str, shape: Sequence[int]) -> str:
    """A layer with our names of input and outputs, and the input with its size.

    A layer is ``kind name inputs outputs``, the names of both, and options.
    """
    kind, name, inputs, outputs, *words = line.split()
    ports = int(inputs) + int(outputs)
    words[:ports] = [_NAMES.get(port, port) for port in words[:ports]]
    if kind == "Input":
        name, words[ports:] = INPUT, [f"0={shape[3]}", f"1={shape[2]}", f"2={shape[1]}"]
    return " ".join([kind, name, inputs, outputs, *words])


def _refuse_unknown(layers: list[str], path: Path) -> None:
    """What ncnn does not have, pnnx leaves under PyTorch's names, such as ``aten::sort``."""
    for line in layers:
        kind, name, *_ = line.split()
        if "." in kind or ":" in kind:
            raise ValueError(f"{path}: ncnn has no layer {kind} ({name})")
