"""Memory that a step or a forward pass frees stays with the process for the next one."""

from __future__ import annotations

import ctypes
import os
import platform

# of glibc's malloc.h
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -2, -3, -4
TOP_PAD_BYTES = 64 * 2**20
KEPT_BYTES = 32 * 2**20  # the most that glibc takes as M_MMAP_THRESHOLD


def tune_malloc(*, return_large: bool = False) -> bool:
    """Makes glibc's allocator keep freed memory instead of returning it to the system.

    By default it requests the memory of every large tensor from the system and returns it when the
    tensor is freed, so that the system clears the same pages in every training step
    (docs/research/training_speed.md has the cost). For programs that train, or compute forward
    passes all day: the process stays at its largest size.

    Args:
        return_large: return blocks of more than ``KEPT_BYTES`` nevertheless, such as the pixels of
            a large photograph; activations of a small batch are smaller.

    Returns:
        Whether the settings were made: they are for glibc only, and settings of the environment
        (``GLIBC_TUNABLES``, ``MALLOC_*_``) take precedence.
    """
    if platform.libc_ver()[0] != "glibc" or _user_has_settings():
        return False
    mallopt = ctypes.CDLL(None).mallopt
    settings = {M_TRIM_THRESHOLD: -1, M_TOP_PAD: TOP_PAD_BYTES}
    settings |= {M_MMAP_THRESHOLD: KEPT_BYTES} if return_large else {M_MMAP_MAX: 0}
    return all([mallopt(parameter, value) == 1 for parameter, value in settings.items()])


def _user_has_settings() -> bool:
    return "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "") or any(
        name.startswith("MALLOC_") and name.endswith("_") for name in os.environ
    )
