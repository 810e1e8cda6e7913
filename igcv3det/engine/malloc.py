"""What training frees stays with the process, to be used again in the next step."""

from __future__ import annotations

import ctypes
import os
import platform

# of glibc's malloc.h
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
TOP_PAD_BYTES = 64 * 2**20


def tune_malloc() -> bool:
    """Tells glibc's allocator not to hand freed memory back to the system.

    By default it requests every large tensor from the system and returns it when it is freed, and
    the system clears the same pages again in every training step. For programs that train: the
    process keeps its peak size. Measured in docs/research/training_speed.md.

    Returns:
        Whether it was done: not on a C library other than glibc, and not where the environment has
        settings for the allocator (``GLIBC_TUNABLES``, ``MALLOC_*_``), which are left alone.
    """
    if platform.libc_ver()[0] != "glibc" or _user_has_settings():
        return False
    mallopt = ctypes.CDLL(None).mallopt
    settings = {M_MMAP_MAX: 0, M_TRIM_THRESHOLD: -1, M_TOP_PAD: TOP_PAD_BYTES}
    return all([mallopt(parameter, value) == 1 for parameter, value in settings.items()])


def _user_has_settings() -> bool:
    return "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "") or any(
        name.startswith("MALLOC_") and name.endswith("_") for name in os.environ
    )
