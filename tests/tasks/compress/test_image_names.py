"""Folders of images as file systems allow them: links to nothing, names that are not UTF-8."""

import os

import numpy as np
import pytest
from tasks.compress.networks import MOBILENETV2, small_detector

pytest.importorskip("scipy")
from igcv3det.checkpoint import save_detector
from igcv3det.io.images import write_image
from igcv3det.tasks.compress.options import SearchOptions
from igcv3det.tasks.compress.search import MIN_IMAGES, Search


def test_a_link_to_nothing_and_a_name_that_is_not_utf8(tmp_path, caplog):
    save_detector(small_detector(MOBILENETV2), tmp_path / "model.safetensors")
    folder = tmp_path / "images"
    for number in range(MIN_IMAGES):
        write_image(folder / f"{number}.png", np.full((8, 8, 3), number, np.uint8))
    (folder / "0.png").rename(folder / os.fsdecode(b"caf\xe9.png"))
    (folder / "link.png").symlink_to("nowhere.png")
    options = SearchOptions(str(tmp_path / "model.safetensors"), str(folder), tmp_path / "out")
    search = Search(options, print)
    assert len(search.cache) == MIN_IMAGES
    assert search.unreadable == 1
    assert "link.png: no such file" in caplog.text
