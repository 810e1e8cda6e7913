"""Every program of research/ runs as a module, and as the commands do."""

import ast
import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NEEDS = {"research.peers": "onnxruntime", "research.peer_records": "onnxruntime"}


def _programs():
    """Modules of research/ with a function main."""
    for path in sorted((ROOT / "research").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in tree.body):
            yield ".".join(path.relative_to(ROOT).with_suffix("").parts)


@pytest.mark.parametrize("module", list(_programs()))
@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
def test_help(module, monkeypatch, capsys):
    pytest.importorskip(NEEDS.get(module, "torch"), reason="needs the extra 'export'")
    monkeypatch.setattr(sys, "argv", [module, "--help"])
    monkeypatch.setattr(sys, "path", [*sys.path])
    with pytest.raises(SystemExit) as end:
        runpy.run_module(module, run_name="__main__")
    assert end.value.code == 0
    shown = capsys.readouterr().out
    assert shown.startswith("usage: ")
    assert "--debug" in shown
