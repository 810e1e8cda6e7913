"""Exported files and images, shared by the tests of a module."""

import pytest
from export.networks import CONFIGS, ODD, lively_detector, require, write_images

from igcv3det.export import CalibrationSet, export_detector, list_images
from igcv3det.export_formats import FORMATS
from igcv3det.preprocess import Preprocess
from igcv3det.runtime import ExportSpec


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return list_images(write_images(tmp_path_factory.mktemp("images")))


@pytest.fixture(scope="module")
def exported_file(tmp_path_factory, images):
    """Exports once for all tests of a module: (detector, path) by format, network and spec.

    Skips the test where a package of the format is missing. int8 is calibrated on `images`.
    """
    made = {}

    def make(name, network, spec=None):
        require(name)
        spec = spec or ExportSpec()
        key = name, network, spec
        if key not in made:
            detector = lively_detector((CONFIGS | ODD)[network])
            path = tmp_path_factory.mktemp(name) / f"a{FORMATS[name].suffix}"
            preprocess = Preprocess(detector.config.preprocess, detector.config.image_size)
            is_int8 = spec.precision == "int8"
            calibration = CalibrationSet(images[0].parent, preprocess) if is_int8 else None
            export_detector(detector, path, spec, calibration)
            made[key] = detector, path
        return made[key]

    return make
