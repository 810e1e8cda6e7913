"""The formats of exported files: endings, precisions, and what a graph of each can include.

Only names and numbers, so that a command line is checked before anything heavy is imported.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ExportFormat:
    """One file format.

    Attributes:
        name: as ``igcv3det export --format`` takes it.
        suffix: of the file.
        runtime: the library that runs it, as ``igcv3det benchmark --backend`` takes it; empty where
            nothing runs it here.
        extra: of ``setup.cfg``, that installs exporter and runtime.
        precisions: that it is written in.
        is_flexible: whether a graph takes batches of any size and can include preprocessing and
            NMS. Others take one normalised image and return boxes and scores.
        weights_suffix: of a second file with the weights; empty where there is none.
    """

    name: str
    suffix: str
    runtime: str
    extra: str
    precisions: tuple[str, ...]
    is_flexible: bool = False
    weights_suffix: str = ""

    def check(self, precision: str, *, preprocessing: bool = False, nms: bool = False) -> None:
        """Compares what is asked for with what the format has.

        Raises:
            ValueError: another precision, or a step that its graphs cannot include.
        """
        if precision not in self.precisions:
            known = " or ".join(self.precisions)
            raise ValueError(f"{self.suffix} files have precision {known}, not {precision}")
        for step, wanted in (("NMS", nms), ("preprocessing", preprocessing)):
            if wanted and not self.is_flexible:
                flexible = " and ".join(f.suffix for f in FORMATS.values() if f.is_flexible)
                raise ValueError(f"{self.suffix} files cannot include {step}; {flexible} files can")


FORMATS: dict[str, ExportFormat] = {
    known.name: known
    for known in (
        ExportFormat("onnx", ".onnx", "onnxruntime", "export", ("fp32", "fp16", "int8"), True),
        ExportFormat(
            *("openvino", ".xml", "openvino", "export", ("fp32", "fp16", "int8"), True, ".bin")
        ),
        ExportFormat("ncnn", ".param", "ncnn", "ncnn", ("fp32", "fp16"), weights_suffix=".bin"),
        ExportFormat("litert", ".tflite", "litert", "litert", ("fp32", "fp16", "int8")),
        ExportFormat("executorch", ".pte", "executorch", "executorch", ("fp32", "int8")),
        ExportFormat("coreml", ".mlpackage", "", "coreml", ("fp32", "fp16")),
    )
}
"""All formats by name."""
RUNTIMES = {known.runtime: known for known in FORMATS.values() if known.runtime}
"""Those that can run here, by library."""
INT8_PARTS = ("onnx", "openvino")
"""Names of those in which a part of a network can be written in int8, not only a detector."""
EXPORTED_SUFFIXES = frozenset(known.suffix for known in FORMATS.values())


def format_of(path: Path, name: str | None = None) -> ExportFormat:
    """The format of a file, by its ending.

    Args:
        path: of the file; it need not exist.
        name: a format that it must have.

    Raises:
        ValueError: another ending.

    Example:
        >>> format_of(Path("detector.param")).name
        'ncnn'
    """
    if name is not None and path.suffix != FORMATS[name].suffix:
        raise ValueError(f"{path}: a file of format {name} ends in {FORMATS[name].suffix}")
    for known in FORMATS.values():
        if path.suffix == known.suffix:
            return known
    *others, last = (known.suffix for known in FORMATS.values())
    raise ValueError(f"{path}: an exported detector ends in {', '.join(others)} or {last}")
