"""Two processes joined by gloo compute what one does with batches twice as large."""

import csv
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from distributed_runs import TRAININGS, VALIDATIONS, run, run_as_one_of_two
from processes import run_processes
from torch.testing import assert_close

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
logged_images: 2
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """What one process finds, and each of two."""
    folder = tmp_path_factory.mktemp("distributed")
    # seven images make three batches of two: an odd number, and one image is left out
    annotations = write_shapes(folder / "data", train=7, val=5, image_size=64) / "annotations"
    content = json.loads((annotations / "instances_val2017.json").read_text())
    first = content["images"][0]
    width, height = first["width"] / 4, first["height"] / 4
    # an object of each class at each anchor of the finest map, so that some detection is right
    places = itertools.product(range(4), range(4), content["categories"])
    objects = [
        {"id": k, "image_id": first["id"], "category_id": category["id"]}
        | {"bbox": [i * width, j * height, width, height], "area": width * height, "iscrowd": 0}
        for k, (i, j, category) in enumerate(places, start=1)
    ]
    (annotations / "five.json").write_text(json.dumps(content))
    one = {**content, "images": [first], "annotations": objects}
    (annotations / "one.json").write_text(json.dumps(one))
    (folder / "two").mkdir()
    run_processes(run_as_one_of_two, folder / "two")
    found = [torch.load(folder / "two" / f"{rank}.pt") for rank in range(2)]
    return run(folder / "data", folder / "one", 1), *found


@pytest.mark.parametrize("name", TRAININGS)
def test_gradients_and_weights_are_those_of_one_process(runs, name):
    (gradients, weights), (found, found_weights), other = (of_run[name] for of_run in runs)
    assert len(gradients) == {1: 3, 2: 2}[TRAININGS[name][1]]
    assert any(gradient.abs().max() > 1e-3 for gradient in gradients[0].values())
    assert_close(found, gradients, rtol=1e-4, atol=1e-6)
    assert_close(found_weights, weights, rtol=1e-4, atol=1e-6)
    assert_close((found, found_weights), other, rtol=0, atol=0)


@pytest.mark.parametrize("annotations", VALIDATIONS)
def test_validation_is_that_of_one_process(runs, annotations):
    one, *others = (of_run[annotations] for of_run in runs)
    names = [name for name in one if name.startswith("val/A")]
    assert len(names) == 12
    assert one["val/AR100"] > 0
    for other in others:  # NaN where no object is of that size
        found, expected = (torch.tensor([of[name] for name in names]) for of in (other, one))
        assert_close(found, expected, rtol=0, atol=0, equal_nan=True)
        assert other["val/loss"] == pytest.approx(one["val/loss"], rel=1e-5)


@pytest.mark.slow
def test_commands_share_one_run_folder_and_its_figures(tmp_path):
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
