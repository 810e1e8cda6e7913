"""The load test as a user runs it, on a tiny detector."""

import numpy as np
import pytest
from coco_files import save_tiny_detector

from igcv3det.io.images import write_image

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
pytest.importorskip("python_multipart")
pytest.importorskip("prometheus_client")

from research.service_load import main


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "rows"),
    [
        (
            ["--requests", "32", "--rounds", "1"],
            ["bare network, 2 in a batch", "service, 16 connecti"],
        ),
        (["--memory", "160"], ["requests  resident MiB", "160 "]),
    ],
    ids=["rates", "memory"],
)
def test_the_table_is_printed(tmp_path, capsys, options, rows):
    checkpoint = save_tiny_detector(tmp_path / "tiny.safetensors")
    write_image(tmp_path / "a.png", np.zeros((30, 40, 3), np.uint8))
    assert main([str(tmp_path / "a.png"), "--checkpoint", str(checkpoint), *options]) == 0
    text = capsys.readouterr().out
    assert all(row in text for row in rows)
