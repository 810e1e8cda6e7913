"""Memory that is freed and wanted again: counted as the system counts page faults."""

import json
import os
import platform
import subprocess
import sys

import pytest

from igcv3det.engine.malloc import tune_malloc

PROGRAM = """
import json, resource, sys
from igcv3det.engine.malloc import tune_malloc

size, return_large = json.loads(sys.argv[1])

def faults_of_a_large_block():
    bytearray(size)  # once before: the heap may have to grow
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    bytearray(size)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

first = faults_of_a_large_block()
print(json.dumps([tune_malloc(return_large=return_large), first, faults_of_a_large_block()]))
"""

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator of glibc")


def _in_a_process(size=2**26, return_large=False, **environment):
    cleared = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    cleared.pop("GLIBC_TUNABLES", None)
    command = [sys.executable, "-c", PROGRAM, json.dumps([size, return_large])]
    done = subprocess.run(
        command, env={**cleared, **environment}, check=True, capture_output=True, text=True
    )
    return json.loads(done.stdout)


@glibc
def test_a_large_block_is_fetched_from_the_system_only_once():
    done, before, after = _in_a_process()
    assert done
    # 64 MiB are 16384 pages, or 32 where the system hands out large ones; then next to none
    assert before >= 32
    assert after < 8


@glibc
def test_blocks_above_the_limit_are_returned_if_asked_for():
    done, _, after = _in_a_process(size=2**24, return_large=True)
    assert done
    assert after < 8
    done, _, after = _in_a_process(size=2**26, return_large=True)
    assert done
    assert after >= 32


@glibc
@pytest.mark.parametrize(
    "settings",
    [{"GLIBC_TUNABLES": "glibc.malloc.perturb=0"}, {"MALLOC_TRIM_THRESHOLD_": "131072"}],
    ids=["tunables", "variable"],
)
def test_settings_of_the_user_are_left_alone(settings):
    done, before, after = _in_a_process(**settings)
    assert not done
    assert before >= 32
    assert after >= 32


def test_other_c_libraries_are_left_alone(monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert tune_malloc() is False
