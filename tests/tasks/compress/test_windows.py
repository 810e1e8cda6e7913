"""Windows of a detector's maps, with a small window so that small maps are cut."""

import pytest
import torch
from tasks.compress.networks import IGCV3, MOBILENETV2, teacher_of

pytest.importorskip("scipy")
from tasks.compress.windows import assert_windows_suffice

from igcv3det.tasks.compress import training
from igcv3det.tasks.compress.parts import IMAGES, run_parts


@pytest.mark.parametrize("config", [MOBILENETV2, IGCV3], ids=["MobileNetV2", "IGCV3"])
def test_windows_of_odd_and_even_maps(config, monkeypatch):
    """417 gives sides of 209, 105, 53, 27, 14, 7 and 4; 481 gives 241, 121, 61, 31, 16, 8, 4."""
    monkeypatch.setattr(training, "_CROP", 2)
    parts = teacher_of(config).parts()
    with torch.no_grad():
        found = run_parts(parts, {IMAGES: torch.randn(1, 3, 417, 481)})
    cropped = assert_windows_suffice(parts, found)
    assert cropped == [name for name in parts if name not in ("extra3", "head3")]
