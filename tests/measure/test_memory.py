"""Memory of another process: what is reported when that process fails."""

import pytest

from igcv3det.measure.memory import peak_of_process


def test_a_process_that_fails_is_reported_with_the_file_that_it_opened():
    with pytest.raises(ValueError, match=r"^a\.onnx: its memory could not be measured: .*gone"):
        peak_of_process("gone", "", "a.onnx")
