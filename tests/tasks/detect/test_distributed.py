"""Two processes on one CPU."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

from igcv3det.shapes.dataset import write_shapes

ROOT = Path(__file__).parents[3]
# weights and statistics stand still, so that both runs validate the same detector
CONFIG = """
model:
  detector:
    num_classes: 6
    image_size: 64
    backbone: {name: mobilenetv2, width: 0.25, norm_momentum: 1.0e-12}
    head: {extra_channels: [16, 16], norm_momentum: 1.0e-12}
    postprocess: {score_threshold: 0.0}
  optim: {lr: 1.0e-12, lr_batch_size: null, weight_decay: 0.0}
data: {batch_size: 2, val_batch_size: 1, num_workers: 0}
trainer:
  accelerator: cpu
  max_steps: 2
  num_sanity_val_steps: 0
  enable_progress_bar: false
images: 2
"""


@pytest.mark.slow
def test_validation_is_that_of_one_process(tmp_path):
    # five images: the processes have different numbers of batches
    write_shapes(tmp_path / "data", train=8, val=5, image_size=96)
    (tmp_path / "tiny.yaml").write_text(CONFIG)

    def last_row(devices):
        folder = tmp_path / f"devices{devices}"
        subprocess.run(
            [
                *(sys.executable, str(ROOT / "tools" / "train_det.py")),
                *("--config", str(tmp_path / "tiny.yaml")),
                *("--data.root", str(tmp_path / "data")),
                *("--trainer.default_root_dir", str(folder)),
                *("--trainer.devices", str(devices), "--trainer.strategy", "ddp"),
            ],
            env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            check=True,
            timeout=300,
        )
        assert not list(tmp_path.glob("devices?-*"))  # one folder for both processes
        assert len(list((folder / "images").rglob("*.png"))) == 2
        with (folder / "metrics.csv").open(newline="") as file:
            return list(csv.DictReader(file))[-1]

    one, two = last_row(1), last_row(2)
    figures = [key for key in one if key.startswith("val/A")]
    assert len(figures) == 12
    assert float(one["val/AR100"]) > 0
    assert {key: two[key] for key in figures} == {key: one[key] for key in figures}
