"""The table of fixed bugs names tests that exist."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TABLE = ROOT / "docs" / "research" / "faults.md"


def _rows():
    for line in TABLE.read_text(encoding="utf-8").splitlines():
        if line.startswith("| ") and not line.startswith("| bug"):
            cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            yield cells


def _named(cell):
    """(file, test) of each entry; ``::test`` alone is of the file before, a file alone is whole."""
    file = ""
    for entry in re.findall(r"[\w/.]*(?:::\w+)?", cell):
        path, _, name = entry.partition("::")
        if path.startswith("tests/"):
            file = path
        if name or path.startswith("tests/"):
            yield file, name


ROWS = list(_rows())


def test_the_table_is_read():
    assert len(ROWS) > 60
    named = list(
        _named("tests/a.py::test_a, ::test_b (`gpu`), tests/c.py, tests/d.py::test_d[x.y]")
    )
    assert named == [
        *(("tests/a.py", "test_a"), ("tests/a.py", "test_b")),
        *(("tests/c.py", ""), ("tests/d.py", "test_d")),
    ]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:40])
def test_every_row_names_tests_that_exist(row):
    bug, kind, change, tests = row
    assert bug
    assert change
    assert re.search("[a-z]", kind)
    named = list(_named(tests))
    assert named, f"no test: {bug}"
    for file, name in named:
        path = ROOT / file
        assert path.is_file(), file
        functions = {
            node.name
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.FunctionDef)
        }
        assert name in functions if name else any(f.startswith("test") for f in functions), name
