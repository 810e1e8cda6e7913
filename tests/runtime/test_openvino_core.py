"""Sessions of OpenVINO leave the signal stack of the thread that opened them usable."""

import ctypes
import sys
from pathlib import Path

import pytest
from exported_files import write_stub

from igcv3det.runtime.sessions import open_session, openvino_core

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's signal stack")


class SignalStack(ctypes.Structure):
    _fields_ = [
        ("start", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("size", ctypes.c_size_t),
    ]


def signal_stack_is_mapped():
    """Whether a signal that arrives now finds memory for its handler."""
    stack = SignalStack()
    assert ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack)) == 0
    if not stack.start:
        return True  # handlers run on the thread's own stack
    spans = [line.split()[0] for line in Path("/proc/self/maps").read_text().splitlines()]
    bounds = [[int(side, 16) for side in span.split("-")] for span in spans]
    return any(low <= stack.start < high for low, high in bounds)


def test_two_sessions_closed_in_the_order_of_their_opening_leave_it(tmp_path):
    pytest.importorskip("openvino")
    first = open_session(write_stub(tmp_path / "first.xml"))
    second = open_session(write_stub(tmp_path / "second.xml"))
    assert signal_stack_is_mapped()
    del first
    assert signal_stack_is_mapped()
    del second
    assert signal_stack_is_mapped()


def test_one_core_serves_all():
    pytest.importorskip("openvino")
    assert openvino_core("this test") is openvino_core("that test")
