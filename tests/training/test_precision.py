"""bfloat16 where it is fast, else float32."""

import platform
from pathlib import Path

import pytest
import torch
import yaml

from igcv3det.data.shapes import write_shapes
from igcv3det.training import precision as module
from igcv3det.training.precision import fitting_precision, processor_computes_bfloat16
from tools.train_det import main

CONFIG = """
model:
  detector:
    num_classes: 6
    image_size: 64
    backbone: {name: mobilenetv2, width: 0.1}
    head: {extra_channels: [16, 16]}
data: {batch_size: 2, num_workers: 0}
trainer:
  accelerator: cpu
  precision: bf16-mixed
  max_steps: 1
  limit_val_batches: 0
  enable_progress_bar: false
  log_every_n_steps: 1
pictures: 0
"""
BFLOAT16 = ["bf16-mixed", "bf16-true", "bf16"]
OTHERS = ["32-true", "16-mixed", "64-true", 32, None]


@pytest.fixture
def machine(monkeypatch):
    """Sets what the processor and the machine have."""

    def have(*, bfloat16, gpu=False):
        monkeypatch.setattr(module, "processor_computes_bfloat16", lambda: bfloat16)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)

    return have


@pytest.mark.parametrize("precision", BFLOAT16)
def test_slow_bfloat16_gives_way(machine, precision):
    machine(bfloat16=False)
    assert fitting_precision(precision, "auto") == "32-true"
    assert fitting_precision(precision, "cpu") == "32-true"
    assert fitting_precision(precision, "gpu") == precision


@pytest.mark.parametrize("precision", BFLOAT16)
def test_bfloat16_stays_where_it_is_computed(machine, precision):
    machine(bfloat16=True)
    assert fitting_precision(precision, "auto") == precision
    machine(bfloat16=False, gpu=True)
    assert fitting_precision(precision, "auto") == precision
    assert fitting_precision(precision, "cpu") == "32-true"


@pytest.mark.parametrize("precision", OTHERS)
def test_other_precisions_stay(machine, precision):
    machine(bfloat16=False)
    assert fitting_precision(precision, "cpu") == precision


@pytest.mark.skipif(
    platform.system() != "Linux" or platform.machine() != "x86_64",
    reason="the processor's flags are read as Linux lists them on x86",
)
def test_as_the_processor_says():
    flags = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("flags", 1)[1].split("\n")[0]
    assert processor_computes_bfloat16() == ("avx512bw" in flags.split())


@pytest.mark.parametrize(("bfloat16", "expected"), [(False, "32-true"), (True, "bf16-mixed")])
def test_a_run_says_and_records_it(tmp_path, machine, caplog, bfloat16, expected):
    machine(bfloat16=bfloat16)
    write_shapes(tmp_path / "data", train=2, val=1, image_size=64)
    (tmp_path / "tiny.yaml").write_text(CONFIG)
    options = ["--config", str(tmp_path / "tiny.yaml"), "--data.root", str(tmp_path / "data")]
    assert main([*options, "--trainer.default_root_dir", str(tmp_path / "run")]) == 0
    recorded = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert recorded["trainer"]["precision"] == expected
    said = [line for line in caplog.messages if "no bfloat16" in line]
    assert said == (
        []
        if bfloat16
        else ["trainer.precision bf16-mixed: this processor has no bfloat16, so 32-true is used"]
    )
