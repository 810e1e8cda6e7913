"""Images for calibration."""

import numpy as np
import pytest

from igcv3det.config import PreprocessConfig
from igcv3det.export.calibration import CalibrationSet, list_images, mean_outputs
from igcv3det.io.images import write_image
from igcv3det.preprocess import Preprocess

PREPROCESS = Preprocess(PreprocessConfig((0.0,) * 3, (1.0,) * 3), 8)


@pytest.fixture
def folder(tmp_path):
    for index in range(10):
        image = np.full((4, 6, 3), index, dtype=np.uint8)
        write_image(tmp_path / f"{index}.png", image)
    (tmp_path / "notes.txt").touch()
    (tmp_path / "inner.jpg").mkdir()
    return tmp_path


def test_images_are_taken_at_even_steps(folder):
    assert [path.stem for path in list_images(folder)] == [str(index) for index in range(10)]
    assert [path.stem for path in list_images(folder, 4)] == ["0", "2", "5", "7"]
    assert len(list_images(folder, 99)) == 10


def test_images_go_through_the_detectors_preprocessing(folder):
    calibration = CalibrationSet(folder, PREPROCESS, 5)
    assert len(calibration) == 5
    arrays = list(calibration)
    assert {array.shape for array in arrays} == {(1, 3, 8, 8)}
    assert [array.max() for array in arrays] == [0, 2, 4, 6, 8]
    assert len(list(calibration)) == 5  # quantisers go through it more than once


def test_what_cannot_be_read_is_left_out_and_named(folder, caplog):
    (folder / "4.png").write_bytes(b"cut off")
    (folder / "link.png").symlink_to("nowhere.png")
    assert len(CalibrationSet(folder, PREPROCESS)) == 9
    assert "4.png" in caplog.text
    assert "link.png: no such file" in caplog.text


def test_no_images(tmp_path):
    with pytest.raises(ValueError, match="no image to calibrate on"):
        CalibrationSet(tmp_path, PREPROCESS)
    with pytest.raises(FileNotFoundError, match="nowhere: no such folder of images"):
        CalibrationSet(tmp_path / "nowhere", PREPROCESS)


def test_means_of_outputs():
    inputs = [np.full((2,), value, np.float32) for value in (1, 2, 6)]
    first, second = mean_outputs(lambda array: (array, 2 * array[:1]), inputs)
    assert first.tolist() == [3, 3]
    assert second.tolist() == [6]
    assert first.dtype == np.float32
    assert mean_outputs(lambda array: [array], []) == []
