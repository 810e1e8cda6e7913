"""Both libraries give the same figures of random detections."""

import re

import pytest

from research import evaluation_speed


def test_the_figures_are_equal(capsys):
    pytest.importorskip("faster_coco_eval", reason="needs the extra igcv3det[fast-eval]")
    assert evaluation_speed.main(["--images", "20"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("20 images, ")
    pycocotools, faster = re.findall(
        r"^(?:pycocotools|faster-coco-eval) +\S+ +\S+ +(0\.\d+)$", text, re.M
    )
    assert pycocotools == faster
