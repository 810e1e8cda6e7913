"""Detectors as Core ML's ``.mlpackage``, a folder, converted by coremltools.

It converts on every system; Core ML itself runs on Apple's only.
"""

from __future__ import annotations

import json
import logging
import tempfile
from pathlib import Path

import torch

from igcv3det.description import DESCRIPTION
from igcv3det.export.job import ExportJob
from igcv3det.export.network import NetworkAndDecoding, description_of
from igcv3det.export.tracing import quiet, silenced
from igcv3det.runtime.export_spec import CANDIDATE_OUTPUTS
from igcv3det.runtime.session import import_extra

PACKAGES: tuple[str, ...] = ("coremltools",)
_MANIFEST = "Manifest.json"  # every package has one


def write(job: ExportJob) -> None:
    """Writes the folder; see `igcv3det.export.job.Writer`."""
    if job.path.exists() and not (job.path / _MANIFEST).is_file():
        raise FileExistsError(f"{job.path}: exists, is no Core ML package and would be overwritten")
    with silenced(), quiet("coremltools", level=logging.ERROR):
        coremltools = import_extra("coremltools", job.path, "coreml")
        model = NetworkAndDecoding(job.detector, job.variant or "dense")
        program = torch.export.export(model, (model.example(),)).run_decompositions({})
        is_half = job.spec.precision == "fp16"
        precision = coremltools.precision
        package = coremltools.convert(
            program,
            outputs=[coremltools.TensorType(name) for name in CANDIDATE_OUTPUTS],
            compute_precision=precision.FLOAT16 if is_half else precision.FLOAT32,
            minimum_deployment_target=coremltools.target.iOS16,
        )
        package.user_defined_metadata[DESCRIPTION] = json.dumps(
            description_of(job.detector, job.spec)
        )
        with tempfile.TemporaryDirectory(dir=job.path.parent) as folder:
            written = Path(folder) / job.path.name
            package.save(str(written))
            _replace(written, job.path, Path(folder) / "earlier")


def _replace(written: Path, path: Path, earlier: Path) -> None:
    """Puts a folder in the place of another one, which comes back if that fails."""
    if path.exists():
        path.rename(earlier)
    try:
        written.rename(path)
    except OSError:
        if earlier.exists():
            earlier.rename(path)
        raise
