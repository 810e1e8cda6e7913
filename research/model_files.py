"""Small files of one detector in every format whose packages are installed, for fuzzing."""

from __future__ import annotations

from pathlib import Path

import torch

from igcv3det import BackboneConfig, DetectorConfig, build_detector, save_detector
from igcv3det.checkpoint import describe_detector
from igcv3det.config import HeadConfig
from igcv3det.description import DESCRIPTION
from igcv3det.export import export_detector

EXPORTED = (".onnx", ".xml", ".param")


def sound_models(folder: Path) -> list[Path]:
    """Writes the files to a folder.

    Returns:
        Their paths; an ``.xml`` or ``.param`` has its ``.bin`` beside it.
    """
    torch.manual_seed(0)
    backbone = BackboneConfig(name="mobilenetv2", width=0.1)
    head = HeadConfig(extra_channels=(16, 16))
    detector = build_detector(DetectorConfig(2, 32, backbone=backbone, head=head)).eval()
    files = [folder / "a.safetensors", folder / "a.ckpt"]
    save_detector(detector, files[0])
    weights = {f"detector.{name}": value for name, value in detector.state_dict().items()}
    torch.save({"state_dict": weights, DESCRIPTION: describe_detector(detector)}, files[1])
    for suffix in EXPORTED:
        file = folder / suffix[1:] / f"a{suffix}"  # of two formats the weights end in .bin
        file.parent.mkdir()
        try:
            export_detector(detector, file)
        except ImportError:
            continue
        files.append(file)
    return files
