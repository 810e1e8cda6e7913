"""Adds ``configs/`` to the wheel as ``igcv3det/configs``; all else is in ``setup.cfg``."""

from setuptools import find_packages, setup

CONFIGS = "igcv3det.configs"

setup(
    packages=[*find_packages(include=["igcv3det*"]), CONFIGS],
    package_dir={CONFIGS: "configs"},
    package_data={"igcv3det": ["py.typed", "weights/*.safetensors"], CONFIGS: ["**/*.yaml"]},
)
