"""Detectors as files for other runtimes; a module for each format, all with one function.

An exported graph consists of preprocessing (optional), the network, its decoding to boxes and
scores, and class-wise NMS (optional). ONNX and OpenVINO take all of them, the other formats the two
in the middle, for one image.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from igcv3det.detector import SSDLite
from igcv3det.export import (
    coreml_files,
    executorch_files,
    litert_files,
    ncnn_files,
    onnx_files,
    openvino_files,
)
from igcv3det.export.calibration import CalibrationSet, WeightBits
from igcv3det.export.job import ExportJob, Writer
from igcv3det.export_formats import format_of
from igcv3det.fastpath.deploy import Variant
from igcv3det.runtime.export_spec import ExportSpec
from igcv3det.runtime.session import import_extra

_WRITERS: dict[str, Writer] = {
    "onnx": onnx_files,
    "openvino": openvino_files,
    "ncnn": ncnn_files,
    "litert": litert_files,
    "executorch": executorch_files,
    "coreml": coreml_files,
}


def export_detector(
    detector: SSDLite,
    path: str | Path,
    spec: ExportSpec | None = None,
    calibration: CalibrationSet | None = None,
    *,
    weight_bits: WeightBits = 7,
    variant: Variant | None = None,
) -> None:
    """Writes a detector for another runtime, with its description inside.

    Args:
        detector: in any mode, on any device; it is exported as in evaluation mode and left
            unchanged.
        path: its ending chooses the format (`igcv3det.export_formats`); ``.xml`` and ``.param``
            have a ``.bin`` beside them.
        spec: precision, and whether the graph includes preprocessing and NMS.
        calibration: images; for int8, and for that only.
        weight_bits: of int8 weights in ONNX and OpenVINO. 7 suits every processor; 8 is finer, but
            saturates on processors with AVX2 and no VNNI (`igcv3det.export.onnx_quantization`).
        variant: of IGCV3's blocks (`igcv3det.fastpath.deploy`); None is the format's fastest.

    Raises:
        FileExistsError: the ``.bin`` beside a new file belongs to something else.
        ImportError: a package of the format's extra is missing.
        OSError: the file cannot be written.
        ValueError: another suffix, what the format does not have, int8 without images, or a layer
            that the format cannot express.
    """
    path, spec = Path(path), spec or ExportSpec()
    own = format_of(path)
    try:
        own.check(spec.precision, preprocessing=spec.preprocessing, nms=spec.nms)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if (spec.precision == "int8") != (calibration is not None):
        raise ValueError(f"{path}: int8 and images to calibrate on go together")
    weights = path.with_suffix(own.weights_suffix) if own.weights_suffix else path
    if weights.exists() and not path.exists():
        raise FileExistsError(f"{weights}: exists without {path.name} and would be overwritten")
    writer = _WRITERS[own.name]
    for package in writer.PACKAGES:
        import_extra(package, path, own.extra)
    path.parent.mkdir(parents=True, exist_ok=True)
    spec = dataclasses.replace(spec, single_image=not own.is_flexible)
    writer.write(ExportJob(detector, path, spec, calibration, weight_bits, variant))
