"""Old import paths give the modules of the new layout, and say so."""

import importlib
import sys

import pytest

from igcv3det.moved import MODULES, MovedModules


@pytest.mark.parametrize("old", sorted(MODULES))
def test_an_old_path_is_the_new_module(old, monkeypatch):
    monkeypatch.delitem(sys.modules, f"igcv3det.{old}", raising=False)
    package = sys.modules.get(f"igcv3det.{old.split('.')[0]}")
    if package and isinstance(package.__spec__.loader, MovedModules):
        # A package that still exists stays: a second copy would be its attribute of `igcv3det`
        # for all later tests, beside the first in `sys.modules`.
        monkeypatch.delitem(sys.modules, package.__name__)
    with pytest.warns(DeprecationWarning, match=rf"is now igcv3det\.{MODULES[old]}"):
        found = importlib.import_module(f"igcv3det.{old}")
    assert found is importlib.import_module(f"igcv3det.{MODULES[old]}")
    assert found.__name__ == f"igcv3det.{MODULES[old]}"


def test_from_an_old_package(monkeypatch):
    monkeypatch.delitem(sys.modules, "igcv3det.training.run_cli", raising=False)
    monkeypatch.delitem(sys.modules, "igcv3det.training", raising=False)
    with pytest.warns(DeprecationWarning, match="run_cli"):
        from igcv3det.training import run_cli
    assert run_cli.__name__ == "igcv3det.engine.run_cli"


def test_the_old_program_is_the_command(monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, "igcv3det.training.cli", raising=False)
    with pytest.warns(DeprecationWarning, match="training.cli"):
        from igcv3det.training.cli import DetectionCLI
    assert DetectionCLI.program_main(["--no.such.key", "1"]) == 2
    assert "no.such.key" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["igcv3det.training.nothing", "igcv3det.nothing"])
def test_other_names_stay_unknown(name):
    with pytest.raises(ModuleNotFoundError, match=name):
        importlib.import_module(name)
