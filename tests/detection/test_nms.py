"""Class-wise NMS against torchvision's, and what it does not import."""

import subprocess
import sys

import pytest
import torch
from torch.testing import assert_close
from torchvision.ops import batched_nms

from igcv3det.detection import nms
from igcv3det.detection.nms import class_wise_nms


@pytest.mark.parametrize("count", [0, 1, 300, 1000, 1001, 3000])  # 4 * 1000 is torchvision's limit
def test_equals_torchvision(count):
    corners = torch.rand(count, 2) * 100
    boxes = torch.cat([corners, corners + torch.rand(count, 2) * 60], dim=1)
    scores = (torch.rand(count) * 50).round() / 50  # with ties
    labels = torch.randint(1, 5, (count,))
    expected = batched_nms(boxes, scores, labels, 0.5)
    assert_close(class_wise_nms(boxes, scores, labels, 0.5), expected, rtol=0, atol=0)


def test_without_the_library_torchvision_is_imported(monkeypatch):
    nms._operator.cache_clear()
    monkeypatch.setattr(nms.Path, "glob", lambda path, pattern: [])
    from torchvision.ops import nms as imported

    assert nms._operator() is imported
    nms._operator.cache_clear()


def test_detecting_imports_neither_torchvision_nor_the_compiler():
    code = (
        "import sys, torch\n"
        "from igcv3det.detection.nms import class_wise_nms\n"
        "boxes = torch.tensor([[0.0, 0, 9, 9], [0, 0, 9, 8]])\n"
        "scores, labels = torch.tensor([0.5, 0.6]), torch.tensor([1, 1])\n"
        "print(class_wise_nms(boxes, scores, labels, 0.5).tolist())\n"
        "import igcv3det.predictor\n"
        "print({'torchvision', 'torch._dynamo', 'sympy', 'onnx'} & set(sys.modules))\n"
        "from torchvision.ops import nms\n"  # imported afterwards, it still works
        "print(nms(boxes, scores, 0.5).tolist())"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines() == ["[1]", "set()", "[1]"]
