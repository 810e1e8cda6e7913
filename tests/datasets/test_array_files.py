"""Arrays that are mapped into memory."""

import io

import numpy as np
import pytest

from igcv3det.datasets.array_files import mapped_array


def _saved(save, *arrays):
    file = io.BytesIO()
    save(file, *arrays)
    return file.getvalue()


WHOLE = _saved(np.save, np.arange(6, dtype=np.float16).reshape(2, 3))


def test_an_array_is_read(tmp_path):
    (tmp_path / "a.npy").write_bytes(WHOLE)
    found = mapped_array(tmp_path / "a.npy")
    assert found.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert not found.flags.writeable


DAMAGED = {
    "empty": b"",
    "garbage": b"garbage" * 100,
    "cut": WHOLE[:-2],
    "cut header": WHOLE[:30],
    "no header": WHOLE[:8] + b"v",
    "wrong header": WHOLE.replace(b"{", b"("),
    "archive": _saved(np.savez, np.arange(3)),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_whatever_is_damaged_is_one_error(tmp_path, name):
    (tmp_path / "a.npy").write_bytes(DAMAGED[name])
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (NumPy's own words)
        mapped_array(tmp_path / "a.npy")
    assert str(caught.value)
