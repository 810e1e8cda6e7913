"""bfloat16 where it is fast, else float32."""

import platform
from pathlib import Path

import pytest
import torch
from pytorch_lightning.accelerators import CPUAccelerator

from igcv3det.engine import precision as module
from igcv3det.engine.precision import fitting_precision, processor_computes_bfloat16

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
    assert fitting_precision(precision, CPUAccelerator()) == precision


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
