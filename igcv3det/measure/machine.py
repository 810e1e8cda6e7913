"""The machine that measurements were taken on."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import torch

_PROCESSORS = Path("/proc/cpuinfo")  # Linux


def describe_machine() -> str:
    """GPU, or processor with its number of cores, and PyTorch's version.

    Example:
        >>> describe_machine().endswith(f"PyTorch {torch.__version__.split('+')[0]}")
        True
    """
    version = f"PyTorch {torch.__version__.split('+')[0]}"
    if torch.cuda.is_available():
        return f"{torch.cuda.get_device_name()}, {version}"
    return f"{processor_name()}, {os.cpu_count()} cores, {version}"


def processor_name() -> str:
    """The processor's name, as the operating system reports it."""
    lines = _PROCESSORS.read_text().splitlines() if _PROCESSORS.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
