"""Configurations and weights of the package, by name."""

from pathlib import Path

import pytest

from igcv3det.config_files import config_folder, config_names, find_config
from igcv3det.pretrained import DEFAULT, PRETRAINED, resolve_model

ROOT = Path(__file__).resolve().parent.parent


def test_the_folder_is_the_clones():
    assert config_folder() == ROOT / "configs"
    assert {ROOT / "configs" / f"{name}.yaml" for name in config_names()} == set(
        (ROOT / "configs").rglob("*.yaml")
    )


@pytest.mark.parametrize(
    "name",
    ["igcv3_shapes", "igcv3_shapes.yaml", "configs/igcv3_shapes.yaml", "configs/igcv3_shapes"],
)
def test_names(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_config(name) == ROOT / "configs" / "igcv3_shapes.yaml"


def test_a_file_of_the_working_directory_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("igcv3_shapes.yaml").touch()
    assert find_config("igcv3_shapes.yaml") == Path("igcv3_shapes.yaml")
    assert resolve_model("igcv3_shapes.yaml") == Path("igcv3_shapes.yaml")


def test_near_names_are_suggested():
    with pytest.raises(FileNotFoundError, match=r"package: igcv3_shapes, mobilenetv2_shapes$"):
        find_config("igcv2_shapes.yaml")


@pytest.mark.parametrize(
    "name", ["nope", "nope.yaml", "/igcv3_shapes", "../setup.cfg", "cls", "a/../../setup.cfg"]
)
def test_unknown_names_list_the_known(name):
    with pytest.raises(FileNotFoundError, match=rf"^{name}: no such file; .* package: \w+"):
        find_config(name)


def test_models_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert resolve_model() == resolve_model("released") == PRETRAINED[DEFAULT]
    assert resolve_model("igcv3_shapes.yaml") == ROOT / "configs" / "igcv3_shapes.yaml"
    assert resolve_model("best.ckpt") == Path("best.ckpt")
    with pytest.raises(FileNotFoundError, match=r"igcv3: no such file.*igcv3-d.*released"):
        resolve_model("igcv3")
