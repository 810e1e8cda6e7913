"""Imports go down the layers, and importing the package stays light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "igcv3det"
# Parts by layer, lowest first. A part is a module or a sub-package; the longest name that fits a
# module counts. A module imports from lower layers and from its own part, and nothing else.
LAYERS = [
    [
        *("structures", "config", "config_files", "moved", "version", "shapes"),
        *("atomic_files", "text_encodings", "devices", "export_formats"),
    ],
    ["models", "detection", "io", "preprocess", "description", "pretrained", "yaml_files"],
    ["detector", "datasets", "runtime", "weight_files", "tracking"],
    ["checkpoint", "fastpath"],
    ["predictor", "engine", "export"],
    ["evaluation", "service"],
    ["measure", "plots"],
    ["tasks"],
    ["cli"],
]
HEAVY = {"pytorch_lightning", "albumentations", "pycocotools", "torchvision", "cv2", "fastapi"}


def _modules():
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        yield ".".join(part for part in parts if part != "__init__"), path


MODULES = dict(_modules())
ENTRY_POINTS = {"", "__main__"}  # the package itself, and its command
PARTS = {part: layer for layer, parts in enumerate(LAYERS) for part in parts}


def _part(module):
    names = module.split(".")
    prefixes = [".".join(names[:n]) for n in range(len(names), 0, -1)]
    return next((name for name in prefixes if name in PARTS), None)


def _imports(path):
    """The package's modules that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "igcv3det":
            base = node.module.removeprefix("igcv3det").lstrip(".")
            for alias in node.names:
                inner = f"{base}.{alias.name}".lstrip(".")
                yield inner if inner in MODULES else base
        elif isinstance(node, ast.Import):
            assert not any(a.name.split(".")[0] == "igcv3det" for a in node.names), path
        assert not (isinstance(node, ast.ImportFrom) and node.level), f"relative import in {path}"


@pytest.mark.parametrize("module", [m for m in MODULES if m not in ENTRY_POINTS], ids=str)
def test_imports_go_down(module):
    own = _part(module)
    assert own is not None, f"{module} is in no layer"
    for imported in _imports(MODULES[module]):
        part = _part(imported)
        same_part = part == own and MODULES[own].name == "__init__.py"
        assert same_part or PARTS[part] < PARTS[own], f"{module} must not import {imported}"


def test_networks_know_no_boxes_and_boxes_no_networks():
    for module, path in MODULES.items():
        text = path.read_text(encoding="utf-8")
        if module.startswith("detection"):
            assert "igcv3det.models" not in text, module
            assert "Conv2d" not in text, module
        if module.startswith("models"):
            assert "igcv3det.detection" not in text, module


def test_importing_the_package_is_light():
    code = "import sys, igcv3det; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not HEAVY & set(run.stdout.split())


def _function_lines(function):
    """Lines of a function without its docstring."""
    docstring = ast.get_docstring(function, clean=False) or ""
    lines = function.end_lineno - function.lineno + 1
    return lines - len(docstring.splitlines())


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: p.name)
def test_files_and_functions_stay_readable(path):
    assert path.stem not in {"utils", "misc", "common", "helpers"}
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 300
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, functions):
            assert _function_lines(node) <= 40, node.name


def test_there_are_at_most_nine_layers_and_no_exceptions():
    assert len(LAYERS) <= 9
    assert all("." not in part for part in PARTS)


def test_studies_stay_outside():
    for module, path in MODULES.items():
        if module not in ENTRY_POINTS:
            tree = ast.parse(path.read_text(encoding="utf-8"))
            names = [n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module]
            assert not any(name.split(".")[0] == "research" for name in names), module
